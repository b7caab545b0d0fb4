package main

import (
	"fmt"
	"strings"
	"time"
)

// aim is what consul-vip must reach after a failure: at most this median, and at most
// this value in nine of ten repetitions. 0 is no aim.
type aim struct {
	peer          consulVIP
	scenario      string
	what          string // of the figure, if it is not the client's longest gap
	value         func(result) time.Duration
	median, worst time.Duration
}

// aims returns all aims.
func aims() []aim {
	const ms = time.Millisecond
	of := func(scenario string, median, worst time.Duration) aim {
		return aim{scenario: scenario, value: gapOf, median: median, worst: worst}
	}
	return []aim{
		of(plannedStop, 2*ms, 5*ms),
		of("SIGKILL", 10*ms, 25*ms),
		of("SIGSTOP", 10*ms, 25*ms),
		of("session destroyed", 15*ms, 30*ms),
		of("key deleted", 15*ms, 30*ms),
		of("cut-off from Consul", 10*ms, 25*ms),
		of(hostDeath, 300*ms, 400*ms),
		{peer: quickCheck, scenario: hostDeath, value: gapOf, median: 75 * ms, worst: 120 * ms},
		of(leaderDeath, 2500*ms, 0),
		of(carrierLoss, 300*ms, 400*ms),
		of(foreignClaim, 40*ms, 60*ms),
		{scenario: foreignClaim, what: "unbound after the frame", value: reactionOf, median: ms},
		of(serviceDies, 5*ms, 0),
		{scenario: manyKilled, what: "the longest gap of any address", value: gapOf, worst: 60 * ms},
		{scenario: manyDead, what: "all addresses are back", value: takenOverOf, worst: 500 * ms},
	}
}

// String says what the aim is.
func (a aim) String() string {
	text := a.peer.name() + ", " + a.scenario + ": "
	if a.what != "" {
		text += a.what + " "
	}
	var parts []string
	if a.median > 0 {
		parts = append(parts, "at most "+ms(a.median)+" ms in the median")
	}
	if a.worst > 0 {
		parts = append(parts, "at most "+ms(a.worst)+" ms in nine of ten runs")
	}
	return text + strings.Join(parts, ", ")
}

// met reports whether the repetitions reach the aim. A zero where there must be a figure
// means that nothing was measured.
func (a aim) met(measured spread) bool {
	return measured.median > 0 && (a.median == 0 || measured.median <= a.median) &&
		(a.worst == 0 || measured.worst <= a.worst)
}

// verdict is the last cell of an aim's row.
func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

// aimsTable returns the table of the aims whose scenarios were run.
func (w worldResults) aimsTable() string {
	var b strings.Builder
	for _, a := range aims() {
		if cell := w.of(a.peer, a.scenario); len(cell) > 0 {
			s := spreadOf(cell, a.value)
			fmt.Fprintf(&b, "| %s | %s ms | %s |\n", a, s, verdict(a.met(s)))
		}
	}
	if b.Len() == 0 {
		return "Not run.\n"
	}
	return "| aim | measured | |\n| --- | --- | --- |\n" + b.String() + w.sameForIPv6() + w.neverTwo()
}

// How much longer the median may be with an IPv6 address than with an IPv4 one: by this
// share of it, or this long.
const (
	ipv6Share = 0.2
	ipv6Extra = 2 * time.Millisecond
)

// sameForIPv6 returns the rows of the aim that IPv6 addresses are as good.
func (w worldResults) sameForIPv6() string {
	var b strings.Builder
	for _, sc := range scenarios(w.world) {
		four, six := w.of(consulVIP{}, sc.name), w.of(overIPv6, sc.name)
		if len(four) == 0 || len(six) == 0 {
			continue
		}
		than, got := spreadOf(four, gapOf).median, spreadOf(six, gapOf).median
		met := got <= than+max(ipv6Extra, time.Duration(ipv6Share*float64(than)))
		fmt.Fprintf(&b, "| consul-vip IPv6, %s: as with IPv4, give or take 20 %% or 2 ms | %s ms, with IPv4 %s ms | %s |\n", sc.name, ms(got), ms(than), verdict(met))
	}
	return b.String()
}

// neverTwo returns the row of the aim that no address ever has two owners.
func (w worldResults) neverTwo() string {
	runs, longest := 0, time.Duration(0)
	for _, p := range variants {
		for _, sc := range scenarios(w.world) {
			for _, r := range w.of(p, sc.name) {
				runs++
				longest = max(longest, r.double)
			}
		}
	}
	return fmt.Sprintf("| consul-vip, every failure: never two owners | %s ms in %d runs | %s |\n", ms(longest), runs, verdict(longest == 0))
}
