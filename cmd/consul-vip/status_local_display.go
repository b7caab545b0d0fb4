package main

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/localstatus"
	"github.com/consul-vip/consul-vip/lease/state"
)

// shownTransitions is how many of the last transitions people see. The JSON has all.
const shownTransitions = 10

// localTables is what an agent tells of itself, for people.
func localTables(s *localstatus.Status, now time.Time) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, consul-vip %s, prefix %s, running since %s\n", printable(cmp.Or(s.Node, "no node name yet")),
		printable(s.Version), printable(s.Prefix), s.Started.Format(time.RFC3339))
	fmt.Fprintf(&b, "Consul: %s\n", printable(consulText(s.Consul, now)))

	var rows [][]string
	for _, a := range s.Addresses {
		rows = append(rows, []string{
			a.VIP, a.State, timeText(a.Since), a.Interface, ownerText(a), leftText(a.HoldLeft), leftText(a.LifetimeLeft),
			fitText(a.Fitness), noteText(a),
		})
	}
	writeRows(&b, "VIP\tSTATE\tSINCE\tINTERFACE\tOWNER\tHOLD\tKERNEL\tFIT\tNOTE", rows)

	rows = nil
	for _, c := range s.Checks {
		rows = append(rows, []string{c.Name, checkText(c), timeText(&c.Since), c.Reason})
	}
	writeRows(&b, "CHECK\tSTATE\tSINCE\tREASON", rows)

	rows = nil
	for _, h := range s.HostChecks {
		missed := fmt.Sprintf("%d of %d", h.Missed, h.Misses)
		rows = append(rows, []string{h.Node, h.Host, h.Interface, h.State, missed, timeText(&h.Since), strings.Join(h.Addresses, " ")})
	}
	writeRows(&b, "HOST CHECK\tADDRESS\tINTERFACE\tSTATE\tMISSED\tSINCE\tOWNS", rows)

	rows = nil
	for _, t := range s.Transitions[max(len(s.Transitions)-shownTransitions, 0):] {
		rows = append(rows, []string{t.Time.Format("2006-01-02T15:04:05.000Z07:00"), t.VIP, t.From, t.To, t.Reason})
	}
	writeRows(&b, "TRANSITION\tVIP\tFROM\tTO\tREASON", rows)
	return b.Bytes()
}

// writeRows writes a section: an empty line and a table. Without rows it writes nothing.
func writeRows(b *bytes.Buffer, head string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n")
	for line := range strings.Lines(tableText(head, rows)) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

// consulText is what the agent knows of Consul, in one line.
func consulText(c localstatus.Consul, now time.Time) string {
	var texts []string
	switch {
	case c.Answers:
		texts = append(texts, "answers")
	case c.FailingSince != nil:
		texts = append(texts, fmt.Sprintf("no answer for %s: %s", tenths(now.Sub(*c.FailingSince)), c.Error))
	default:
		texts = append(texts, "no answer yet")
	}
	if c.LastContact != nil {
		texts = append(texts, fmt.Sprintf("last contact %s ago", tenths(now.Sub(*c.LastContact))))
	}
	switch {
	case c.Session == "":
		texts = append(texts, "no session, so no address may be held")
	case c.HoldLeft != nil:
		texts = append(texts, fmt.Sprintf("session %s, without another answer addresses may be held for %s", c.Session, leftText(c.HoldLeft)))
	}
	return strings.Join(texts, "; ")
}

// tenths is a duration for people.
func tenths(d time.Duration) string { return max(d, 0).Round(100 * time.Millisecond).String() }

func leftText(m *localstatus.Milliseconds) string {
	if m == nil {
		return ""
	}
	return tenths(m.Duration())
}

// ownerText is the node that holds the lock, as far as this host knows.
func ownerText(a localstatus.Address) string {
	switch {
	case a.Owner != "" || a.Lock == state.StatusFree:
		return a.Owner
	case a.Lock == state.StatusForeign:
		return "another program"
	}
	return a.Lock
}

func fitText(fitness string) string {
	switch fitness {
	case localstatus.Fit:
		return "yes"
	case localstatus.NotFit:
		return "no"
	}
	return fitness
}

// noteText is what does not work, why this host cannot serve an address, and what else there
// is to say of it.
func noteText(a localstatus.Address) string {
	var texts []string
	if a.Failing != "" {
		texts = append(texts, "failing: "+a.Failing)
	}
	if a.Ineligible != "" {
		texts = append(texts, "not eligible: "+a.Ineligible)
	}
	if a.BackoffLeft != nil {
		texts = append(texts, "next try in "+leftText(a.BackoffLeft))
	}
	if a.Unfit != "" && a.Unfit != a.Ineligible {
		texts = append(texts, "not fit: "+a.Unfit)
	}
	if a.Note != "" {
		texts = append(texts, a.Note)
	}
	return strings.Join(texts, "; ")
}

// checkText is the state of a check.
func checkText(c localstatus.Check) string {
	switch {
	case c.Fit:
		return "fit"
	case c.Flapping:
		return "flapping"
	case !c.Known:
		return "unknown"
	}
	return "not fit"
}
