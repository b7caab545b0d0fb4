package main

import (
	"errors"
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
	foreign  = scenario{name: "foreign claim", mayStay: true}
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

// clientsWith are results in the world of client agents.
func clientsWith(rs results) worldResults { return worldResults{lab.Clients, rs} }

func TestTable(t *testing.T) {
	broken := result{err: errors.New("broken")}
	got := clientsWith(results{
		{"consul-vip", plannedStop}:    gaps(1, 2, 3),
		{"keepalived 1s", plannedStop}: append(gaps(600), broken),
		{"consul lock", plannedStop}:   {broken},
	}).table(single, gapCell)
	lines := strings.Split(got, "\n")
	require.Equal(t, "| | consul-vip | consul-vip 10ms | consul-vip IPv6 | keepalived 1s | keepalived 100ms | keepalived 10ms | consul lock |", lines[0])
	require.Equal(t, "| planned stop | 2.0 / 3.0 | – | not run | 600 (1 failed) | not run | not run | 1 failed |", lines[2])
	require.Contains(t, got, "| cut-off from Consul | not run | – | not run | – | – | – | not run |")
	require.Contains(t, got, "| host death | not run | not run | not run | not run | not run | not run | not run |")
	require.NotContains(t, got, leaderDeath)
	require.NotContains(t, got, manyKilled)
	columns := strings.Count(lines[0], "|")
	for _, line := range lines[:len(lines)-1] {
		require.Equal(t, columns, strings.Count(line, "|"), line)
	}
	servers := worldResults{world: lab.ServersOnHosts}.table(single, gapCell)
	require.Contains(t, servers, "| host death, Consul's leader | not run | not run | not run | – | – | – | not run |")
}

func TestSpreadText(t *testing.T) {
	const ms = time.Millisecond
	for want, s := range map[string]spread{
		"20":           {20 * ms, 20 * ms, 20 * ms},
		"20 / 30":      {20 * ms, 30 * ms, 30 * ms},
		"20 / 30 (40)": {20 * ms, 30 * ms, 40 * ms},
		"0 (40)":       {0, 0, 40 * ms},
	} {
		require.Equal(t, want, s.String())
	}
}

func TestManyTable(t *testing.T) {
	run := gaps(50)
	run[0].gaps, run[0].takenOver = []time.Duration{10 * time.Millisecond, 50 * time.Millisecond}, 5*time.Second
	require.Contains(t, clientsWith(results{{"consul-vip", manyKilled}: run}).manyTable(),
		"| consul-vip, 100 addresses, SIGKILL | 30 / 50 | 50 | 5000 |\n")
}

func TestWebCell(t *testing.T) {
	runs := gaps(2, 2)
	runs[0].web, runs[1].web = webLoad{1000, 1, 3500}, webLoad{500, 0, 9000}
	require.Equal(t, "1500 requests, 1 errors, slowest 9.0 ms; gap 2.0", webCell(scenario{}, runs))
}

func TestPhasesTable(t *testing.T) {
	runs := gaps(1, 1)
	runs[0].phases = phases{"detect": 200 * time.Millisecond, "prove": 4 * time.Millisecond}
	runs[1].phases = phases{"detect": 220 * time.Millisecond, "prove": 4 * time.Millisecond}
	require.Equal(t, "| | detect | commit | prove | bind | announce |\n| --- | --- | --- | --- | --- | --- |\n"+
		"| consul-vip, host death | 210 / 220 | – | 4.0 | – | – |\n",
		clientsWith(results{{"consul-vip", hostDeath}: runs, {"consul-vip", "SIGKILL"}: gaps(1)}).phasesTable())
}

func TestAims(t *testing.T) {
	require.Equal(t, "Not run.\n", clientsWith(nil).aimsTable())
	late := gaps(9, 9)
	for i := range late {
		late[i].takenOver = 600 * time.Millisecond
	}
	table := clientsWith(results{
		{"consul-vip", plannedStop}:      gaps(1, 2, 8),
		{"consul-vip", "SIGKILL"}:        with(gaps(9, 9, 9), 1, func(r *result) { r.double = lab.ObserveInterval }),
		{"consul-vip 10ms", hostDeath}:   gaps(70, 70, 70, 70, 70, 70, 70, 70, 70, 900),
		{"consul-vip", foreignClaim}:     gaps(30),
		{"consul-vip", manyDead}:         late,
		{"consul-vip IPv6", plannedStop}: gaps(4),
		{"consul-vip IPv6", "SIGKILL"}:   gaps(12),
	}).aimsTable()
	for _, row := range []string{
		"| consul-vip, planned stop: at most 2.0 ms in the median, at most 5.0 ms in nine of ten runs | 2.0 / 8.0 ms | **missed** |",
		"| consul-vip, SIGKILL: at most 10 ms in the median, at most 25 ms in nine of ten runs | 9.0 ms | met |",
		"| consul-vip IPv6, planned stop: as with IPv4, give or take 20 % or 2 ms | 4.0 ms, with IPv4 2.0 ms | met |",
		"| consul-vip IPv6, SIGKILL: as with IPv4, give or take 20 % or 2 ms | 12 ms, with IPv4 9.0 ms | **missed** |",
		"| consul-vip 10ms, host death: at most 75 ms in the median, at most 120 ms in nine of ten runs | 70 (900) ms | met |",
		"| consul-vip, foreign claim: at most 40 ms in the median, at most 60 ms in nine of ten runs | 30 ms | met |",
		"| consul-vip, foreign claim: unbound after the frame at most 1.0 ms in the median | 0 ms | **missed** |", // no reaction at all
		"| consul-vip, 100 addresses, host death: all addresses are back at most 500 ms in nine of ten runs | 600 ms | **missed** |",
		"| consul-vip, every failure: never two owners | 10 ms in 21 runs | **missed** |",
	} {
		require.Contains(t, table, row+"\n")
	}
	require.NotContains(t, table, "SIGSTOP", "it was not run")
}

func TestBetterNamesThePrice(t *testing.T) {
	rs := results{
		{"consul-vip", "SIGKILL"}:        gaps(50),
		{"keepalived 1s", "SIGKILL"}:     with(gaps(0), 0, func(r *result) { r.double = time.Second }),
		{"consul-vip", "host death"}:     gaps(5000),
		{"keepalived 1s", "host death"}:  gaps(3400),
		{"consul-vip", plannedStop}:      gaps(1),
		{"keepalived 10ms", plannedStop}: gaps(8),
	}
	require.Equal(t, "- SIGKILL, keepalived 1s: the client's longest gap is 0 ms, with consul-vip 50 ms; but the address had two owners.\n"+
		"- host death, keepalived 1s: the client's longest gap is 3400 ms, with consul-vip 5000 ms.\n", clientsWith(rs).better())
}

func TestReportOfNothingIsAPage(t *testing.T) {
	o := options{worlds: lab.Worlds, n: 10, only: regexp.MustCompile("")}
	page := report(machine{consulVIP: "consul-vip 1.2.3", cores: 2, memoryGB: 24}, o, []worldResults{{world: lab.Clients}, {world: lab.ServersOnHosts}})
	require.Contains(t, page, "| consul-vip | consul-vip 1.2.3 |")
	require.Contains(t, page, "| repetitions | 10 of consul-vip, 5 of the others")
	require.Contains(t, page, "bin/consul-vip -n 10`")
	for _, w := range worlds {
		require.Equal(t, 1, strings.Count(page, "\n## "+w.title+"\n"))
	}
	require.NotContains(t, page, "%!", "a format without its argument")
	o.worlds = lab.Worlds[:1]
	require.Contains(t, report(machine{}, o, nil), " -world clients -n 10`")
}

func TestPlanHasEverythingOnce(t *testing.T) {
	for _, w := range lab.Worlds {
		t.Run(string(w), func(t *testing.T) { testPlan(t, w) })
	}
}

func testPlan(t *testing.T, w lab.World) {
	o := options{n: 10, worlds: lab.Worlds, only: regexp.MustCompile("")}
	seen := make(map[key]int)
	for _, i := range plan(o, w) {
		for _, together := range i.trials {
			for _, p := range together {
				seen[key{p.name(), i.scenario.name}]++
			}
		}
	}
	for _, sc := range scenarios(w) {
		for _, p := range peers() {
			want := 0
			if sc.applies(p) && (p.needsConsul() || w == lab.Worlds[0]) {
				want = o.repetitions(p, sc)
			}
			require.Equal(t, want, seen[key{p.name(), sc.name}], "%s, %s", p.name(), sc.name)
		}
	}
	require.Equal(t, 10, seen[key{"consul-vip", hostDeath}])
	require.Equal(t, 10, seen[key{"consul-vip 10ms", hostDeath}])
	require.Equal(t, 5, seen[key{"consul lock", hostDeath}])
	require.Equal(t, map[lab.World]int{lab.Clients: 5, lab.ServersOnHosts: 0}[w], seen[key{"keepalived 1s", hostDeath}])
	o = options{n: 1, worlds: lab.Worlds, only: regexp.MustCompile("^consul-vip/planned stop$")}
	require.Len(t, plan(o, w), 1)
	o.only = regexp.MustCompile("nothing")
	require.Empty(t, plan(o, w))
}
