package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// tally counts the faults of one kind.
type tally struct {
	faults   int
	noTarget int // of these, the ones that had nothing to hit
	longest  gap
}

// summary counts the faults of a run.
type summary struct {
	kinds map[string]*tally
}

// of returns the tally of a kind.
func (s *summary) of(kind string) *tally {
	if s.kinds == nil {
		s.kinds = make(map[string]*tally)
	}
	if s.kinds[kind] == nil {
		s.kinds[kind] = new(tally)
	}
	return s.kinds[kind]
}

// overlapping is the kind under which the gaps of two overlapping faults count.
const overlapping = "two at once"

// group counts a group of faults, those without a target by their number, and the gaps
// that the observer saw.
func (s *summary) group(g Group, noTarget map[int]bool, gaps []gap) {
	for _, f := range g.Faults {
		t := s.of(string(f.Kind))
		t.faults++
		if noTarget[f.Number] {
			t.noTarget++
		}
	}
	kind := string(g.Faults[0].Kind)
	if len(g.Faults) > 1 {
		kind = overlapping
	}
	t := s.of(kind)
	t.longest = longestOf(append(gaps, t.longest))
}

// print prints the summary, with the overlapping faults at its end.
func (s *summary) print(out io.Writer) {
	fmt.Fprintf(out, "\n%-18s %6s %10s   %s\n", "fault", "count", "no target", "longest time without owner")
	kinds := slices.Sorted(maps.Keys(s.kinds))
	if i := slices.Index(kinds, overlapping); i >= 0 {
		kinds = append(slices.Delete(kinds, i, i+1), overlapping)
	}
	for _, kind := range kinds {
		t := s.kinds[kind]
		fmt.Fprintf(out, "%-18s %6d %10d   %s\n", kind, t.faults, t.noTarget, t.longest)
	}
}
