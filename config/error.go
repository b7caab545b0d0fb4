package config

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

const (
	wrapWidth = 80 // of the explanations, in characters

	// maxRendered limits the problems in an error text. A file that is not a
	// configuration has one problem per character.
	maxRendered = 50
)

// Error lists all problems of a configuration. It wraps the errors of the files that
// could not be read.
type Error struct {
	// Diagnostics are the problems, in the order of the files and their lines. A
	// diagnostic without a Subject is about a whole file or directory. The Subject of one
	// about an environment variable has the variable's name as its file, and line 0.
	Diagnostics hcl.Diagnostics

	files map[string]*hcl.File // for the lines to quote
}

// Error renders the problems for an operator's terminal, in several lines. The first
// line counts them. Values that look like secrets are masked.
func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "the configuration has %s\n\n", count(len(e.Diagnostics), "problem"))
	writer := hcl.NewDiagnosticTextWriter(&text, mask(e.files), wrapWidth, false)
	for _, diag := range e.Diagnostics[:min(maxRendered, len(e.Diagnostics))] {
		if diag.Subject != nil {
			fmt.Fprintf(&text, "%s: ", position(*diag.Subject))
			diag = withoutVariable(diag)
		}
		// A strings.Builder never fails.
		_ = writer.WriteDiagnostic(diag)
	}
	if rest := len(e.Diagnostics) - maxRendered; rest > 0 {
		fmt.Fprintf(&text, "and %d more", rest)
	}
	return strings.TrimRight(text.String(), "\n")
}

// Unwrap returns the errors of the file system.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, diag := range e.Diagnostics {
		if err, ok := diag.Extra.(error); ok {
			errs = append(errs, err)
		}
	}
	return errs
}

// withoutVariable returns a problem without its position if that is a variable: there is no
// line to quote.
func withoutVariable(diag *hcl.Diagnostic) *hcl.Diagnostic {
	if !isVariable(*diag.Subject) {
		return diag
	}
	bare := *diag
	bare.Subject, bare.Context = nil, nil
	return &bare
}

// position returns the start of r as file:line:column, which editors and terminals can
// open, or the name of a variable.
func position(r hcl.Range) string {
	if isVariable(r) {
		return r.Filename
	}
	return fmt.Sprintf("%s:%d:%d", r.Filename, r.Start.Line, r.Start.Column)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
