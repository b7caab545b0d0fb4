package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

const (
	width = 80 // where the explanations below a line wrap
	most  = 50 // problems rendered; a file that is no configuration has one per character
)

// Error is everything that is wrong with a configuration. It unwraps to the
// errors of the files that could not be read.
type Error struct {
	// Diagnostics are in the order of the files and of their lines. One
	// without a Subject concerns a whole file or directory.
	Diagnostics hcl.Diagnostics

	files map[string]*hcl.File
}

// Error renders the problems for an operator's terminal, over several lines,
// and says first how many there are.
func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "the configuration has %s\n\n", count(len(e.Diagnostics), "problem"))
	writer := hcl.NewDiagnosticTextWriter(&text, masked(e.files), width, false)
	for _, diag := range e.Diagnostics[:min(most, len(e.Diagnostics))] {
		if diag.Subject != nil {
			fmt.Fprintf(&text, "%s: ", position(*diag.Subject))
		}
		// A strings.Builder never fails.
		_ = writer.WriteDiagnostic(diag)
	}
	if rest := len(e.Diagnostics) - most; rest > 0 {
		fmt.Fprintf(&text, "and %d more", rest)
	}
	return strings.TrimRight(text.String(), "\n")
}

// secret is a key that is none, but that somebody may take for the place of an
// ACL token, with the rest of its line.
var secret = regexp.MustCompile(`(?im)^(.*\b(?:\w*_)?(?:token|secret|secret_id|password))\b"?[ \t]*[=:](.*)$`)

// masked returns files with such values made unreadable, each byte in its
// place: what quotes a line goes to logs.
func masked(files map[string]*hcl.File) map[string]*hcl.File {
	quiet := make(map[string]*hcl.File, len(files))
	for name, file := range files {
		copied := *file
		copied.Bytes = slices.Clone(file.Bytes)
		for _, at := range secret.FindAllSubmatchIndex(copied.Bytes, -1) {
			value := copied.Bytes[at[4]:at[5]]
			for i, b := range value {
				if b != ' ' && b != '"' && b != '}' {
					value[i] = '*'
				}
			}
		}
		quiet[name] = &copied
	}
	return quiet
}

// Unwrap returns the errors of the file system among the problems.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, diag := range e.Diagnostics {
		if err, ok := diag.Extra.(error); ok {
			errs = append(errs, err)
		}
	}
	return errs
}

// position is where r starts, as editors and terminals know to follow it.
func position(r hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", r.Filename, r.Start.Line, r.Start.Column)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
