package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/go-hclog"
)

// The parsers of this package check one value each. A parser returns the checked value,
// or a complaint for the operator: sentences that say what is wrong and what to write
// instead. The complaint is empty if the value is valid.

// unchecked accepts any value.
func unchecked[T any](v T) (T, string) { return v, "" }

// choice accepts one of the names, and suggests one that differs in one or two letters.
func choice[T ~string](names ...T) func(string) (T, string) {
	return func(s string) (T, string) {
		if name := T(s); slices.Contains(names, name) {
			return name, ""
		}
		var quoted []string
		for _, name := range names {
			quoted = append(quoted, strconv.Quote(string(name)))
		}
		return "", fmt.Sprintf("%q is none of %s.%s", s, strings.Join(quoted, ", "), suggestion(s, names))
	}
}

// suggestion is a sentence that suggests one of the names if s differs from it in one or
// two letters.
func suggestion[T ~string](s string, names []T) string {
	for _, name := range names {
		if levenshtein.Distance(strings.ToLower(s), string(name), nil) < 3 {
			return fmt.Sprintf(" Did you mean %q?", name)
		}
	}
	return ""
}

func logLevel(s string) (hclog.Level, string) {
	name, complaint := choice("trace", "debug", "info", "warn", "error")(s)
	return hclog.LevelFromString(name), complaint
}

func priority(n float64) (int, string) {
	if n < 0 || n > 1000 || n != math.Trunc(n) {
		return 0, fmt.Sprintf("%v is not a whole number from 0 (preferred) to 1000.", n)
	}
	return int(n), ""
}

// misses accepts no less than three, because a switch may drop two frames in a row, and
// 0, which turns the host check off.
func misses(n float64) (int, string) {
	if n != 0 && (n < 3 || n > 100 || n != math.Trunc(n)) {
		return 0, fmt.Sprintf("%v is not a whole number from 3 to 100, or 0 for no host check.", n)
	}
	return int(n), ""
}
