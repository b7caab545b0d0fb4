package main

import (
	"fmt"
	"strings"
	"time"
)

// report returns the whole page in Markdown.
func report(m machine, o options, all results) string {
	var b strings.Builder
	fmt.Fprintf(&b, intro, bound/time.Second, longBound/time.Second)
	b.WriteString(conditions(m, o))
	b.WriteString("\n## The longest time without an answer\n\n" + gapText + table(all, gapCell) + leaders(all))
	b.WriteString("\n## Time until another host answered\n\n" + takenText + table(all, takenCell))
	b.WriteString("\n## Time with two owners\n\n" + doubleText + table(all, doubleCell))
	fmt.Fprintf(&b, "\n## The address on the old host afterwards\n\n"+leftText+"%s", lastSign/time.Second, table(all, leftCell))
	b.WriteString("\n## consul-vip against its aims\n\n" + aimsText + aimsTable(all))
	b.WriteString("\n## Where a planned stop of consul-vip spends its time\n\n" + handovers(all))
	b.WriteString("\n## Where another program is better\n\n" + better(all))
	fmt.Fprintf(&b, "\n## How it is measured\n\n"+method, lastSign/time.Second)
	return b.String()
}

const intro = `# Benchmarks

This page is written by ` + "`make bench`" + `. It shows what a client sees when the
host that owns the address fails, in one lab and in one go, with consul-vip and
with two programs that one may use in its place. Every figure is the median and
the worst case of all repetitions, in milliseconds; a single figure is both.
"Not taken over" means: not within %d s (%d s for a killed or frozen ` + "`consul lock`" + `).

`

const gapText = `As a client saw it that sends an echo request every millisecond. Less is better.

`

const takenText = `This is not the same: while the old owner still answers, nobody misses it.

`

const doubleText = `As an observer saw it that asks by ARP every 10 ms who has the address: how many
of its questions two hosts answered, times 10 ms. What must never be. ">" where it
had not ended when the repetition did.

`

const leftText = `Does the old host still have it, at the end of the repetition? Where it may, that is
%[1]d s or more after the failure, and %[1]d s or more after the takeover too. When
its cable or its process comes back, it answers again. A dead host has nothing.

`

const aimsText = `All figures are the client's longest gap, unless said otherwise.

`

const method = `Three hosts, a client and an observer are network namespaces on one machine, joined
by a bridge. Each host runs a Consul server (` + "`raft_multiplier` 1" + `). For each repetition the daemons start anew on all
three hosts; in turn, another host owns the address, so it is also Consul's leader
now and then. All are ready for more than a second before the failure. A daemon
that ends is started again a second later, as a scheduler would; the one that the
failure is about is not.

- **consul-vip** has the configuration ` + "`vip \"10.77.0.100\" {}`" + `, all else by default
  (only the log is in JSON).
- **keepalived** is Debian's, with adverts every 1 s (VRRP version 2), 100 ms and
  10 ms (version 3), priorities 150, 100 and 50, everything else by default.
- **consul lock** runs a script that binds the address, sends a gratuitous ARP by
  arping every 5 s, and removes the address when it is told to end.

The failures, each of the host that owns the address:

- *planned stop*: SIGTERM to the daemon, as a scheduler or systemd does it.
- *SIGKILL*: to all processes of consul-vip (one) and of keepalived (two; if only the
  first of them is killed, the other one notices and leaves in good order); of
  ` + "`consul lock`" + ` only to itself: its script is not the daemon, and goes on.
- *SIGSTOP*: to all processes, those of the script too.
- *host death*: the cable is taken out, all processes are killed, the host's Consul
  server too. (Not with keepalived, which has nothing to do with it.)
- *cut-off from Consul*: a firewall on the host drops what its Consul agent says to
  the other hosts and hears from them.
- *carrier loss*: the cable is taken out and stays out; no process is touched. This
  cuts off Consul, too.
- *foreign ARP*: one gratuitous ARP request of a stranger for the address. It
  misleads the client as well, until it is told or finds out better.

A planned stop is measured with one program at a time, and so is every failure of
consul-vip's process. What takes seconds is measured side by side, with an address
each, because it would take an hour otherwise: keepalived with 1 s and with 100 ms;
consul-vip and ` + "`consul lock`" + ` where it is the host that fails; all repetitions of a
killed or frozen ` + "`consul lock`" + `.

The gap is the time from the first request without an answer to the next one that
was answered, of the longest such run that ended after the failure. A request that
was not answered within 100 ms is lost. The repetition ends one second or more after
another host's first answer to the client; where the address may be left behind,
%[1]d s or more after the failure, and when the old host has let go of it, but not later
than %[1]d s after the takeover.

All hosts share one machine here, so a frame takes microseconds and a write into
Consul about a millisecond. On real hosts, add the network's latency; a failed switch
port or a lost frame is not in these figures.
`

// conditions is the table of what was measured with.
func conditions(m machine, o options) string {
	rows := [][2]string{
		{"date", m.date},
		{"command", fmt.Sprintf("`go run ./integration/bench -bin bin/consul-vip -n %d%s`", o.n, onlyText(o))},
		{"repetitions", fmt.Sprint(o.n)},
		{"consul-vip", m.consulVIP},
		{"Consul", m.consul},
		{"keepalived", m.keepalived},
		{"Go", m.goVersion},
		{"Linux", m.kernel},
		{"machine", fmt.Sprintf("%d cores, %d GB of memory", m.cores, m.memoryGB)},
	}
	var b strings.Builder
	b.WriteString("| | |\n| --- | --- |\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s |\n", r[0], r[1])
	}
	return b.String()
}

func onlyText(o options) string {
	if o.only.String() == "" {
		return ""
	}
	return fmt.Sprintf(" -only '%s'", o.only)
}

// leaders tells host death apart by whether the host was Consul's leader, too:
// then Consul has to elect another one first.
func leaders(all results) string {
	var b strings.Builder
	for _, p := range peers() {
		if !p.needsConsul() {
			continue
		}
		var led, other []result
		for _, r := range measured(all[key{p.name(), "host death"}]) {
			if r.led {
				led = append(led, r)
			} else {
				other = append(other, r)
			}
		}
		if len(led) > 0 && len(other) > 0 {
			fmt.Fprintf(&b, "\nHost death with %s: %s ms where the host was Consul's leader too (%d of %d), %s ms where not.\n",
				p.name(), spreadOf(led, gapOf), len(led), len(led)+len(other), spreadOf(other, gapOf))
		}
	}
	return b.String()
}

// handovers is the table of a planned handover's steps.
func handovers(all results) string {
	var done []result
	for _, r := range measured(all[key{consulVIP{}.name(), "planned stop"}]) {
		if r.handover.handedOver > 0 {
			done = append(done, r)
		}
	}
	if len(done) == 0 {
		return "Not run.\n"
	}
	steps := []struct {
		what  string
		value func(result) time.Duration
	}{
		{"the old owner: Consul has committed that the successor has the lock", func(r result) time.Duration { return r.handover.handedOver }},
		{"the successor: sees that it has the lock", func(r result) time.Duration { return r.handover.acquired }},
		{"the old owner: the address is unbound, the successor has been told", func(r result) time.Duration { return r.handover.released }},
		{"the successor: the address is bound", func(r result) time.Duration { return r.handover.active }},
	}
	var b strings.Builder
	b.WriteString("By the time stamps of both logs, in milliseconds since the signal. The client is\nserved until the address is unbound. A line is logged after what it is about, so\nthe last three are less exact than the client's gap.\n\n| | median / worst |\n| --- | --- |\n")
	for _, s := range steps {
		fmt.Fprintf(&b, "| %s | %s |\n", s.what, spreadOf(done, s.value))
	}
	return b.String()
}

// better lists where a peer's median gap is shorter than consul-vip's, or where
// it moves at all when consul-vip does not.
func better(all results) string {
	var lines []string
	for _, sc := range scenarios() {
		ours := measured(all[key{consulVIP{}.name(), sc.name}])
		if len(ours) == 0 {
			continue
		}
		for _, p := range peers()[1:] {
			theirs := measured(all[key{p.name(), sc.name}])
			if len(theirs) == 0 || spreadOf(theirs, gapOf).median >= spreadOf(ours, gapOf).median {
				continue
			}
			lines = append(lines, fmt.Sprintf("- %s, %s: the client's longest gap is %s ms, with consul-vip %s ms%s.\n",
				sc.name, p.name(), spreadOf(theirs, gapOf), spreadOf(ours, gapOf), price(theirs)))
		}
	}
	if lines == nil {
		return "In no case is the median of the longest gap shorter than with consul-vip.\n"
	}
	return strings.Join(lines, "")
}

// price names what a short gap comes with.
func price(cell []result) string {
	var doubles, left bool
	for _, r := range cell {
		doubles = doubles || r.double > 0
		left = left || r.left
	}
	switch {
	case doubles:
		return "; but the address had two owners"
	case left:
		return "; but the address stayed on the host that failed"
	}
	return ""
}
