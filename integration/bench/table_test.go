package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

var (
	ordinary = scenario{name: "SIGKILL"}
	dead     = scenario{name: "host death", hostGone: true}
	foreign  = scenario{name: "foreign ARP", mayStay: true}
)

// with returns the results with one of them changed.
func with(cell []result, n int, change func(*result)) []result {
	change(&cell[n])
	return cell
}

func TestCells(t *testing.T) {
	stays := func(r *result) { r.next = "" }
	for name, tt := range map[string]struct{ want, got string }{
		"gap":                    {"2.0 / 9.0", gapCell(ordinary, gaps(1, 2, 9))},
		"gap, always the same":   {"2.0", gapCell(ordinary, gaps(2, 2))},
		"gap without an end":     {"> 2.0 / 9.0", gapCell(ordinary, with(gaps(1, 2, 9), 2, func(r *result) { r.open = true }))},
		"gap, once no takeover":  {"2.0, not taken over in 1 of 2", gapCell(ordinary, with(gaps(2, 2), 1, stays))},
		"gap, never a takeover":  {"2.0, not taken over", gapCell(ordinary, with(gaps(2), 0, stays))},
		"gap, allowed to stay":   {"2.0, stays", gapCell(foreign, with(gaps(2), 0, stays))},
		"two owners, ended":      {"10", doubleCell(ordinary, with(gaps(1), 0, func(r *result) { r.double = 10 * time.Millisecond }))},
		"two owners, going on":   {"> 10", doubleCell(ordinary, with(gaps(1), 0, func(r *result) { r.double, r.left = 10*time.Millisecond, true }))},
		"left, but no two":       {"0", doubleCell(ordinary, with(gaps(1), 0, func(r *result) { r.left = true }))},
		"left":                   {"yes in 1 of 2", leftCell(ordinary, with(gaps(1, 1), 0, func(r *result) { r.left = true }))},
		"not left":               {"no", leftCell(ordinary, gaps(1, 1))},
		"left on a dead host":    {notApplicable, leftCell(dead, gaps(1))},
		"taken over":             {"8.0", takenCell(ordinary, with(gaps(1), 0, func(r *result) { r.takenOver = 8 * time.Millisecond }))},
		"never taken over":       {"never", takenCell(ordinary, with(gaps(1), 0, stays))},
		"taken over, but not by": {"8.0, never in 1 of 2", takenCell(ordinary, with(with(gaps(1, 1), 0, stays), 1, func(r *result) { r.takenOver = 8 * time.Millisecond }))},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, tt.got) })
	}
}

func TestTable(t *testing.T) {
	broken := result{err: errors.New("broken")}
	got := table(results{
		{"consul-vip", "planned stop"}:    gaps(1, 2, 3),
		{"keepalived 1s", "planned stop"}: append(gaps(600), broken),
		{"consul lock", "planned stop"}:   {broken},
	}, gapCell)
	lines := strings.Split(got, "\n")
	require.Equal(t, "| | consul-vip | keepalived 1s | keepalived 100ms | keepalived 10ms | consul lock |", lines[0])
	require.Equal(t, "| planned stop | 2.0 / 3.0 | 600 (1 failed) | not run | not run | 1 failed |", lines[2])
	require.Contains(t, got, "| cut-off from Consul | not run | – | – | – | not run |")
	columns := strings.Count(lines[0], "|")
	for _, line := range lines[:len(lines)-1] {
		require.Equal(t, columns, strings.Count(line, "|"), line)
	}
}

func TestAims(t *testing.T) {
	require.Empty(t, aimsOf(nil))
	rs := results{
		{"consul-vip", "planned stop"}:    gaps(1, 2, 8),
		{"keepalived 1s", "planned stop"}: gaps(600),
		{"consul lock", "planned stop"}:   gaps(19),
		{"consul-vip", "SIGKILL"}:         with(gaps(40, 40, 40), 1, func(r *result) { r.double = lab.ObserveInterval }),
		{"consul-vip", "SIGSTOP"}:         gaps(75),
		{"consul-vip", "foreign ARP"}:     gaps(70),
	}
	verdicts := make(map[string]bool)
	for _, a := range aimsOf(rs) {
		verdicts[a.what] = a.met
	}
	require.Equal(t, map[string]bool{
		"planned stop: at most 3 ms in the median":                         true,
		"planned stop: 200 times shorter than keepalived 1s":               true,
		"planned stop: 10 times shorter than consul lock":                  false,
		"SIGKILL: at most 75 ms in the median, never two owners":           false, // had two once
		"SIGSTOP: at most 75 ms in the median, never two owners":           true,
		"foreign ARP: unbound at most 1 ms after the frame, in the median": false, // no reaction at all
	}, verdicts)
	require.Contains(t, aimsTable(rs), "| planned stop: 10 times shorter than consul lock | 9.5 times | **missed** |")
}

func TestBetterNamesThePrice(t *testing.T) {
	rs := results{
		{"consul-vip", "SIGKILL"}:           gaps(50),
		{"keepalived 1s", "SIGKILL"}:        with(gaps(0), 0, func(r *result) { r.double = time.Second }),
		{"consul-vip", "host death"}:        gaps(5000),
		{"keepalived 1s", "host death"}:     gaps(3400),
		{"consul-vip", "planned stop"}:      gaps(1),
		{"keepalived 10ms", "planned stop"}: gaps(8),
	}
	require.Equal(t, "- SIGKILL, keepalived 1s: the client's longest gap is 0 ms, with consul-vip 50 ms; but the address had two owners.\n"+
		"- host death, keepalived 1s: the client's longest gap is 3400 ms, with consul-vip 5000 ms.\n", better(rs))
}

func TestLeaders(t *testing.T) {
	led := func(r *result) { r.led = true }
	require.Equal(t, "\nHost death with consul-vip: 15000 ms if the host was Consul's leader too (1 of 3), 5500 / 6000 ms if not.\n",
		leaders(results{
			{"consul-vip", "host death"}:    with(gaps(5000, 15000, 6000), 1, led),
			{"consul lock", "host death"}:   gaps(20000),
			{"keepalived 1s", "host death"}: with(gaps(3000, 3000), 0, led),
		}))
}

func TestReportOfNothingIsAPage(t *testing.T) {
	for _, world := range lab.Worlds {
		page := report(machine{consulVIP: "consul-vip 1.2.3", cores: 2, memoryGB: 24}, options{world: world, n: 5, only: regexp.MustCompile("")}, nil)
		require.Contains(t, page, "| consul-vip | consul-vip 1.2.3 |")
		require.Contains(t, page, fmt.Sprintf("-world %s -n 5`", world))
		require.Contains(t, page, fmt.Sprintf("| world | `%s`: ", world))
		require.NotContains(t, page, "%!", "a format without its argument")
	}
}

func TestPlanHasEverythingOnce(t *testing.T) {
	seen := make(map[key]int)
	for _, i := range plan(options{n: 5, only: regexp.MustCompile("")}) {
		for _, p := range i.together {
			seen[key{p.name(), i.scenario.name}] += i.repetitions
		}
	}
	for _, sc := range scenarios() {
		for _, p := range peers() {
			want := 5
			if sc.ofConsul && !p.needsConsul() {
				want = 0
			}
			require.Equal(t, want, seen[key{p.name(), sc.name}], "%s, %s", p.name(), sc.name)
		}
	}
	require.Len(t, plan(options{n: 1, only: regexp.MustCompile("^consul-vip/planned stop$")}), 1)
	require.Empty(t, plan(options{n: 1, only: regexp.MustCompile("nothing")}))
}
