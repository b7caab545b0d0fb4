package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// result is the result of one repetition for one peer.
type result struct {
	err   error // it could not be measured, and no other field counts
	owner string

	gaps   []time.Duration // each client's longest since the failure
	gap    time.Duration   // the longest of all
	lost   int             // requests in that gap
	open   bool            // the gap had not ended when the repetition ended
	double time.Duration   // with two owners
	left   bool            // the old host still has the address

	next      string        // the host that answered the client then, "" if no other did
	takenOver time.Duration // from the failure to that answer, for the last address

	reaction time.Duration // consul-vip: from a foreign frame until the address was unbound
	handover handover      // consul-vip
	phases   phases        // consul-vip
	web      webLoad       // of the scenarios with a web server
}

// String returns the result in one line.
func (r result) String() string {
	if r.err != nil {
		return fmt.Sprintf("FAILED: %v", r.err)
	}
	moved := "stays on " + r.owner
	if r.next != "" {
		moved = fmt.Sprintf("from %s to %s after %s ms", r.owner, r.next, ms(r.takenOver))
	}
	text := fmt.Sprintf("%s; longest gap %s ms (%d lost), two owners %s ms", moved, ms(r.gap), r.lost, ms(r.double))
	if r.open {
		text += "; no answer at the end"
	}
	if r.left {
		text += "; the address is still on " + r.owner
	}
	if r.reaction > 0 {
		text += fmt.Sprintf("; unbound after %s ms", ms(r.reaction))
	}
	if h := r.handover; h.transferred > 0 {
		text += fmt.Sprintf("; %s", h)
	}
	if len(r.phases) > 0 {
		text += fmt.Sprintf("; %s", r.phases)
	}
	if r.web.Requests > 0 {
		text += fmt.Sprintf("; %s", r.web)
	}
	return text
}

func (h handover) String() string {
	return fmt.Sprintf("transferred %s, released %s, successor acquired %s, active %s ms",
		ms(h.transferred), ms(h.released), ms(h.acquired), ms(h.active))
}

// key is a cell of the tables: a peer and a failure.
type key struct{ peer, scenario string }

func (k key) String() string { return k.peer + "/" + k.scenario }

// results are all repetitions.
type results map[key][]result

// adopt adds what was measured in another world with the peers that do without Consul.
func (rs results) adopt(other results) {
	for _, p := range peers() {
		for k, cell := range other {
			if k.peer == p.name() && !p.needsConsul() {
				rs[k] = measured(cell)
			}
		}
	}
}

// failed counts the repetitions that could not be measured.
func (rs results) failed() int {
	n := 0
	for _, cell := range rs {
		n += len(cell) - len(measured(cell))
	}
	return n
}

// of returns the repetitions of a peer and a failure that could be measured.
func (rs results) of(p peer, scenario string) []result { return measured(rs[key{p.name(), scenario}]) }

// measured returns the repetitions that could be measured.
func measured(cell []result) []result {
	return slices.DeleteFunc(slices.Clone(cell), func(r result) bool { return r.err != nil })
}

// longestAfter returns the longest of the gaps that ended after the failure.
func longestAfter(gaps []lab.Gap, failure time.Time) lab.Gap {
	var longest lab.Gap
	for _, g := range gaps {
		if g.To.After(failure) && g.Length() > longest.Length() {
			longest = g
		}
	}
	return longest
}

// doublesAfter counts the questions since the failure that two hosts answered.
func doublesAfter(doubles []lab.Double, failure time.Time) int {
	n := 0
	for _, d := range doubles {
		if !d.At.Before(failure) {
			n++
		}
	}
	return n
}

// spread is the median of several durations, the worst that nine of ten keep to, and the
// greatest.
type spread struct{ median, worst, max time.Duration }

// spreadOf returns the spread of a value of each repetition.
func spreadOf(cell []result, value func(result) time.Duration) spread {
	var values []time.Duration
	for _, r := range cell {
		values = append(values, value(r))
	}
	return spreadOfAll(values)
}

// spreadOfAll returns the spread of at least one value. The median of an even number is
// the mean of the two in the middle.
func spreadOfAll(values []time.Duration) spread {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return spread{
		median: (values[(n-1)/2] + values[n/2]) / 2,
		worst:  values[(9*n+9)/10-1], // with less than ten, the greatest
		max:    values[n-1],
	}
}

func gapOf(r result) time.Duration       { return r.gap }
func doubleOf(r result) time.Duration    { return r.double }
func reactionOf(r result) time.Duration  { return r.reaction }
func takenOverOf(r result) time.Duration { return r.takenOver }

// ms formats a duration in milliseconds, with one decimal below ten and two below one.
func ms(d time.Duration) string {
	value := float64(d) / float64(time.Millisecond)
	switch {
	case value == 0:
		return "0"
	case value < 1:
		return fmt.Sprintf("%.2f", value)
	case value < 10:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.0f", value)
}
