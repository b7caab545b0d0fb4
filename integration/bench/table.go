package main

import (
	"fmt"
	"slices"
	"strings"
)

const (
	notRun        = "not run"
	notApplicable = "–"
)

// table returns a table in Markdown, with a row for every failure that is of this kind,
// and a column for every peer. cell returns the text of a cell for the repetitions that
// could be measured.
func (w worldResults) table(kind func(scenario) bool, cell func(scenario, []result) string) string {
	var b strings.Builder
	b.WriteString("| |")
	rule := "| --- |"
	for _, p := range peers() {
		fmt.Fprintf(&b, " %s |", p.name())
		rule += " --- |"
	}
	b.WriteString("\n" + rule + "\n")
	for _, sc := range scenarios(w.world) {
		if !kind(sc) {
			continue
		}
		fmt.Fprintf(&b, "| %s |", sc.name)
		for _, p := range peers() {
			fmt.Fprintf(&b, " %s |", fill(w.results, p, sc, cell))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Kinds of scenarios.
func anyKind(scenario) bool    { return true }
func single(sc scenario) bool  { return !sc.many && !sc.web }
func withWeb(sc scenario) bool { return sc.web }

// fill returns one cell, with a note if there are repetitions that could not be
// measured.
func fill(all results, p peer, sc scenario, cell func(scenario, []result) string) string {
	if !sc.applies(p) {
		return notApplicable
	}
	repetitions := all[key{p.name(), sc.name}]
	good := measured(repetitions)
	failed := len(repetitions) - len(good)
	switch {
	case len(repetitions) == 0:
		return notRun
	case len(good) == 0:
		return fmt.Sprintf("%d failed", failed)
	case failed > 0:
		return fmt.Sprintf("%s (%d failed)", cell(sc, good), failed)
	}
	return cell(sc, good)
}

// gapCell is the client's longest gap in milliseconds.
func gapCell(sc scenario, cell []result) string {
	stayed, open := 0, 0
	for _, r := range cell {
		if r.next == "" {
			stayed++
		}
		if r.open {
			open++
		}
	}
	text := spreadOf(cell, gapOf).String()
	if open > 0 {
		text = "> " + text
	}
	switch {
	case sc.mayStay && stayed > 0:
		text += ", " + some(stayed, len(cell), "stays")
	case stayed > 0:
		text += ", " + some(stayed, len(cell), "not taken over")
	}
	return text
}

// doubleCell is the time with two owners in milliseconds. It is a lower limit if the old
// owner still had the address at the end.
func doubleCell(_ scenario, cell []result) string {
	text := spreadOf(cell, doubleOf).String()
	if slices.ContainsFunc(cell, func(r result) bool { return r.left && r.double > 0 }) {
		text = "> " + text
	}
	return text
}

// leftCell is whether the old host still has the address.
func leftCell(sc scenario, cell []result) string {
	if sc.hostGone {
		return notApplicable
	}
	left := 0
	for _, r := range cell {
		if r.left {
			left++
		}
	}
	if left == 0 {
		return "no"
	}
	return some(left, len(cell), "yes")
}

// takenCell is the time until another host answered, in milliseconds.
func takenCell(_ scenario, cell []result) string {
	var moved []result
	for _, r := range cell {
		if r.next != "" {
			moved = append(moved, r)
		}
	}
	if len(moved) == 0 {
		return "never"
	}
	text := spreadOf(moved, takenOverOf).String()
	if never := len(cell) - len(moved); never > 0 {
		text += ", " + some(never, len(cell), "never")
	}
	return text
}

// some returns a text that holds in n of all repetitions.
func some(n, of int, text string) string {
	if n == of {
		return text
	}
	return fmt.Sprintf("%s in %d of %d", text, n, of)
}

// String returns the median and the worst, and in brackets the greatest if it is worse.
func (s spread) String() string {
	text := ms(s.median)
	if s.worst != s.median {
		text += " / " + ms(s.worst)
	}
	if s.max != s.worst {
		text += " (" + ms(s.max) + ")"
	}
	return text
}

// webCell is what the web client saw in all repetitions.
func webCell(_ scenario, cell []result) string {
	var all webLoad
	for _, r := range cell {
		all.Requests += r.web.Requests
		all.Errors += r.web.Errors
		all.Slowest = max(all.Slowest, r.web.Slowest)
	}
	return fmt.Sprintf("%s; gap %s", all, spreadOf(cell, gapOf))
}
