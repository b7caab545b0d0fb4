package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// phaseNames are the fields in which consul-vip logs how long the parts of a takeover
// took, in their order.
var phaseNames = []string{"detect", "commit", "prove", "bind", "announce"}

// phases is how long the parts of a takeover took, as the successor has logged them.
type phases map[string]time.Duration

// phasesOf reads the parts of the takeover of an address since a failure from the log of
// the successor.
func phasesOf(failure time.Time, next *lab.Process, addr string) phases {
	for _, line := range next.Entries() {
		if line.Get("vip") != addr || !line.Time().After(failure) {
			continue
		}
		found := make(phases)
		for _, name := range phaseNames {
			if took, err := time.ParseDuration(line.Get(name)); err == nil {
				found[name] = took
			}
		}
		if len(found) > 1 { // another line may have one of these fields by chance
			return found
		}
	}
	return nil
}

// String returns the parts in one line.
func (p phases) String() string {
	var parts []string
	for _, name := range phaseNames {
		if took, ok := p[name]; ok {
			parts = append(parts, name+" "+ms(took))
		}
	}
	return strings.Join(parts, ", ") + " ms"
}

// phasesTable returns the table of the parts of consul-vip's takeovers.
func (w worldResults) phasesTable() string {
	var b strings.Builder
	for _, p := range variants {
		for _, sc := range scenarios(w.world) {
			if row := phasesRow(w.of(p, sc.name)); row != "" {
				fmt.Fprintf(&b, "| %s, %s |%s\n", p.name(), sc.name, row)
			}
		}
	}
	if b.Len() == 0 {
		return "Not run.\n"
	}
	return "| | " + strings.Join(phaseNames, " | ") + " |\n|" + strings.Repeat(" --- |", 1+len(phaseNames)) + "\n" + b.String()
}

// phasesRow returns the cells of some repetitions, or "" if none of them has logged any
// part.
func phasesRow(cell []result) string {
	row, logged := "", false
	for _, name := range phaseNames {
		var values []time.Duration
		for _, r := range cell {
			if took, ok := r.phases[name]; ok {
				values = append(values, took)
			}
		}
		if len(values) == 0 {
			row += " " + notApplicable + " |"
			continue
		}
		logged = true
		row += " " + spreadOfAll(values).String() + " |"
	}
	if !logged {
		return ""
	}
	return row
}
