package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// worldResults are the results in a world.
type worldResults struct {
	world lab.World
	results
}

// report returns the complete page in Markdown.
func report(m machine, o options, all []worldResults) string {
	var b strings.Builder
	fmt.Fprintf(&b, intro, bound/time.Second, longBound/time.Second)
	b.WriteString(conditions(m, o))
	for _, w := range all {
		b.WriteString(w.section())
	}
	fmt.Fprintf(&b, "\n## How it is measured\n\n"+method, longWatch/time.Second)
	return b.String()
}

// section returns the section of a world.
func (w worldResults) section() string {
	var b strings.Builder
	part := func(title, text, table string) { b.WriteString("\n### " + title + "\n\n" + text + table) }
	text := worlds[w.world]
	b.WriteString("\n## " + text.title + "\n\n" + text.consul + "\n")
	part("The longest time without an answer", gapText, w.table(single, gapCell))
	part("Time until another host answered", takenText, w.table(single, takenCell))
	part("A hundred addresses", manyText, w.manyTable())
	part("A web server behind the address", webText, w.table(withWeb, webCell))
	part("Time with two owners", doubleText, w.table(anyKind, doubleCell))
	part("The address on the old host afterwards", fmt.Sprintf(leftText, longWatch/time.Second), w.table(single, leftCell))
	part("consul-vip against its aims", aimsText, w.aimsTable())
	part("Where a planned stop of consul-vip spends its time", "", w.handovers())
	part("Where other takeovers of consul-vip spend their time", phasesText, w.phasesTable())
	part("Where another program is better", "", w.better())
	return b.String()
}

// conditions returns the table of what the figures were measured with.
func conditions(m machine, o options) string {
	ours, theirs := o.repetitions(consulVIP{}, scenario{}), o.repetitions(consulLock{}, scenario{})
	rows := [][2]string{
		{"date", m.date},
		{"command", "`" + o.command() + "`"},
		{"repetitions", fmt.Sprintf("%d of consul-vip, %d of the others; with a web server half as many", ours, theirs)},
		{"consul-vip", m.consulVIP},
		{"Consul", m.consul},
		{"keepalived", m.keepalived},
		{"nginx", m.nginx},
		{"wrk", m.wrk},
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

// command is the command line that measures the same again.
func (o options) command() string {
	text := "go run ./integration/bench -bin bin/consul-vip"
	if len(o.worlds) == 1 {
		text += " -world " + o.worlds[0].String()
	}
	text += fmt.Sprintf(" -n %d", o.n)
	if o.only.String() != "" {
		text += fmt.Sprintf(" -only '%s'", o.only)
	}
	return text
}

// manyTable returns the table of the takeovers of a hundred addresses.
func (w worldResults) manyTable() string {
	var b strings.Builder
	for _, p := range variants {
		for _, sc := range scenarios(w.world) {
			cell := w.of(p, sc.name)
			if !sc.many || len(cell) == 0 {
				continue
			}
			var each []time.Duration
			for _, r := range cell {
				each = append(each, r.gaps...)
			}
			fmt.Fprintf(&b, "| %s, %s | %s | %s | %s |\n", p.name(), sc.name,
				spreadOfAll(each), spreadOf(cell, gapOf), takenCell(sc, cell))
		}
	}
	if b.Len() == 0 {
		return "Not run.\n"
	}
	return "| | gap of each address | the longest of a run | all back |\n| --- | --- | --- | --- |\n" + b.String()
}

// handovers returns the table of the steps of a planned handover.
func (w worldResults) handovers() string {
	var done []result
	for _, r := range w.of(consulVIP{}, plannedStop) {
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
func (w worldResults) better() string {
	var lines []string
	for _, sc := range scenarios(w.world) {
		ours := w.of(consulVIP{}, sc.name)
		if len(ours) == 0 {
			continue
		}
		for _, p := range peers() {
			theirs := w.of(p, sc.name)
			if _, isOurs := p.(consulVIP); isOurs || len(theirs) == 0 || spreadOf(theirs, gapOf).median >= spreadOf(ours, gapOf).median {
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
