package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
)

// Load reads one configuration from files and directories, and what they leave out from
// the variables CONSUL_VIP_... of environ, whose entries are those of [os.Environ]. With
// [VIPsVariable] no file is needed. In a directory it reads the files named *.hcl, in
// lexical order; it skips hidden files and subdirectories. It reads a file that is given
// twice only once. Any error is an *Error.
func Load(environ []string, paths ...string) (*Config, error) {
	s := sources{parser: hclparse.NewParser(), env: newEnvironment(environ)}
	if len(paths) == 0 && s.env[VIPsVariable] == "" {
		s.fail("No configuration", "Name at least one file or directory, or set "+VIPsVariable+".", nil)
	}
	for _, path := range paths {
		s.add(path)
	}
	return s.config()
}

// LoadConsul returns the consul block that environ alone gives, for a program that only
// talks to Consul. Other variables are not looked at. Any error is an *Error.
func LoadConsul(environ []string) (Consul, error) {
	s := sources{parser: hclparse.NewParser()}
	c := checker{env: newEnvironment(environ)}
	consul := c.consul(rawConsul{})
	return consul, s.problems(c.diags)
}

// Parse reads a complete configuration from src. Only error texts use the filename. Any
// error is an *Error.
func Parse(filename string, src []byte) (*Config, error) {
	s := sources{parser: hclparse.NewParser()}
	s.parse(filename, src)
	return s.config()
}

// sources collects the files of one configuration and their problems.
type sources struct {
	parser *hclparse.Parser
	env    environment
	names  []string // of the parsed files, in order
	bodies []hcl.Body
	diags  hcl.Diagnostics
}

func (s *sources) add(path string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		s.unreadable(err)
	case info.IsDir():
		s.addDir(path)
	default:
		s.addFile(path)
	}
}

func (s *sources) addDir(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.unreadable(err)
		return
	}
	found := false
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || filepath.Ext(name) != ".hcl" || strings.HasPrefix(name, ".") {
			continue
		}
		found = true
		s.addFile(filepath.Join(dir, name))
	}
	if !found {
		s.fail("Empty directory", fmt.Sprintf("The directory %s holds no file named *.hcl.", dir), nil)
	}
}

func (s *sources) addFile(path string) {
	path = filepath.Clean(path)
	if slices.Contains(s.names, path) {
		return
	}
	src, err := os.ReadFile(path)
	if err != nil {
		s.unreadable(err)
		return
	}
	s.parse(path, src)
}

func (s *sources) parse(name string, src []byte) {
	if !utf8.Valid(src) {
		s.fail("Not a text file", fmt.Sprintf("The file %s is not UTF-8 text.", name), nil)
		return
	}
	file, diags := s.parser.ParseHCL(src, name)
	s.names = append(s.names, name)
	s.bodies = append(s.bodies, file.Body)
	s.diags = append(s.diags, diags...)
}

func (s *sources) unreadable(err error) {
	s.fail("Cannot read the configuration", err.Error()+".", err)
}

// fail adds a problem that has no position in a file.
func (s *sources) fail(summary, detail string, cause error) {
	diag := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail}
	if cause != nil {
		diag.Extra = cause
	}
	s.diags = append(s.diags, diag)
}

// config checks the collected files as one body, even if some are missing or broken,
// so that one run reports all problems.
func (s *sources) config() (*Config, error) {
	c := checker{complete: !s.diags.HasErrors(), env: s.env}
	cfg := c.config(hcl.MergeBodies(s.bodies))
	if err := s.problems(slices.Concat(s.diags, c.diags, s.env.unknown())); err != nil {
		return nil, err
	}
	return cfg, nil
}

// problems returns an *Error, or nil if there are no problems.
func (s *sources) problems(diags hcl.Diagnostics) error {
	if !diags.HasErrors() {
		return nil
	}
	// The order of the HCL library's problems is random, as in the maps it reads.
	slices.SortStableFunc(diags, s.compare)
	// A variable may be the default of many blocks.
	diags = slices.CompactFunc(diags, func(a, b *hcl.Diagnostic) bool { return a.Subject != nil && s.compare(a, b) == 0 })
	return &Error{Diagnostics: diags, files: s.parser.Files()}
}

// compare orders problems by position. Problems without a position come first, and those
// of variables next.
func (s *sources) compare(a, b *hcl.Diagnostic) int {
	if a.Subject == nil || b.Subject == nil {
		return cmp.Compare(btoi(a.Subject != nil), btoi(b.Subject != nil))
	}
	return cmp.Or(
		cmp.Compare(slices.Index(s.names, a.Subject.Filename), slices.Index(s.names, b.Subject.Filename)),
		cmp.Compare(a.Subject.Filename, b.Subject.Filename),
		cmp.Compare(a.Subject.Start.Byte, b.Subject.Start.Byte),
		cmp.Compare(a.Summary, b.Summary),
		cmp.Compare(a.Detail, b.Detail),
	)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
