package config

import (
	"fmt"
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
	writer := hcl.NewDiagnosticTextWriter(&text, e.files, width, false)
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
