package main

import (
	"fmt"
	"strings"
	"time"
)

// report returns the complete page in Markdown.
func report(m machine, o options, all results) string {
	var b strings.Builder
	fmt.Fprintf(&b, intro, bound/time.Second, longBound/time.Second)
	b.WriteString(conditions(m, o))
	b.WriteString("\n## The longest time without an answer\n\n" + gapText + table(all, gapCell) + leaders(all))
	b.WriteString("\n## Time until another host answered\n\n" + takenText + table(all, takenCell))
	b.WriteString("\n## Time with two owners\n\n" + doubleText + table(all, doubleCell))
	fmt.Fprintf(&b, "\n## The address on the old host afterwards\n\n"+leftText+"%s", longWatch/time.Second, table(all, leftCell))
	b.WriteString("\n## consul-vip against its aims\n\n" + aimsText + aimsTable(all))
	b.WriteString("\n## Where a planned stop of consul-vip spends its time\n\n" + handovers(all))
	b.WriteString("\n## Where another program is better\n\n" + better(all))
	fmt.Fprintf(&b, "\n## How it is measured\n\n"+method, longWatch/time.Second, worlds[o.world].consul, worlds[o.world].link)
	return b.String()
}

// conditions returns the table of what the figures were measured with.
func conditions(m machine, o options) string {
	rows := [][2]string{
		{"date", m.date},
		{"command", fmt.Sprintf("`go run ./integration/bench -bin bin/consul-vip -world %s -n %d%s`", o.world, o.n, onlyText(o))},
		{"world", worlds[o.world].row},
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

// leaders compares the death of the host that is also Consul's leader with the death of
// another host: without a leader, Consul has to elect one first.
func leaders(all results) string {
	var b strings.Builder
	for _, p := range peers() {
		if !p.needsConsul() {
			continue
		}
		var led, other []result
		for _, r := range all.of(p, "host death") {
			if r.led {
				led = append(led, r)
			} else {
				other = append(other, r)
			}
		}
		if len(led) > 0 && len(other) > 0 {
			fmt.Fprintf(&b, "\nHost death with %s: %s ms if the host was Consul's leader too (%d of %d), %s ms if not.\n",
				p.name(), spreadOf(led, gapOf), len(led), len(led)+len(other), spreadOf(other, gapOf))
		}
	}
	return b.String()
}

// handovers returns the table of the steps of a planned handover.
func handovers(all results) string {
	var done []result
	for _, r := range all.of(consulVIP{}, "planned stop") {
		if r.handover.transferred > 0 {
			done = append(done, r)
		}
	}
	if len(done) == 0 {
		return "Not run.\n"
	}
	var b strings.Builder
	b.WriteString(handoverText + "| | median / worst |\n| --- | --- |\n")
	for _, step := range []struct {
		text  string
		value func(handover) time.Duration
	}{
		{"the old owner: Consul has committed the transfer of the lock", func(h handover) time.Duration { return h.transferred }},
		{"the successor: knows that it holds the lock", func(h handover) time.Duration { return h.acquired }},
		{"the old owner: the address is unbound, the successor has been told", func(h handover) time.Duration { return h.released }},
		{"the successor: the address is bound", func(h handover) time.Duration { return h.active }},
	} {
		value := func(r result) time.Duration { return step.value(r.handover) }
		fmt.Fprintf(&b, "| %s | %s |\n", step.text, spreadOf(done, value))
	}
	return b.String()
}

// better lists the failures for which a peer's median gap is shorter than
// consul-vip's.
func better(all results) string {
	var lines []string
	for _, sc := range scenarios() {
		ours := all.of(consulVIP{}, sc.name)
		if len(ours) == 0 {
			continue
		}
		for _, p := range peers()[1:] {
			theirs := all.of(p, sc.name)
			if len(theirs) == 0 || spreadOf(theirs, gapOf).median >= spreadOf(ours, gapOf).median {
				continue
			}
			lines = append(lines, fmt.Sprintf("- %s, %s: the client's longest gap is %s ms, with consul-vip %s ms%s.\n",
				sc.name, p.name(), spreadOf(theirs, gapOf), spreadOf(ours, gapOf), price(theirs)))
		}
	}
	if lines == nil {
		return "No program has a shorter median of the longest gap than consul-vip, after any failure.\n"
	}
	return strings.Join(lines, "")
}

// price returns the disadvantage that comes with a short gap, or "".
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
