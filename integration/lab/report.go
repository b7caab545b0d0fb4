package lab

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// Report is what a client saw. It begins with the first request that was
// answered; what came before tells when the address came up. A request counts as
// lost if it was never answered; those that are too young to tell don't count at all.
type Report struct {
	Before int // requests before the first one that was answered
	Sent   int // since then
	Lost   int
	Gaps   []Gap   // every run of lost requests, in order
	Owned  []Reign // who answered, in order
}

// Gap is a run of requests that weren't answered.
type Gap struct {
	From time.Time // when the first of them was sent
	To   time.Time // when the next one that was answered was sent, or the end
	Lost int
}

// Length returns for how long the target was unreachable.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// Reign is a time during which one host gave all the answers, or was the only one
// to claim an address.
type Reign struct {
	Host        string // as Lab.NameOf
	First, Last time.Time
	Answers     int // or claims
}

// HostsOf returns whose reigns these are, in order.
func HostsOf(reigns []Reign) []string {
	var hosts []string
	for _, r := range reigns {
		hosts = append(hosts, r.Host)
	}
	return hosts
}

// Report returns what the client saw so far.
func (c *Client) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	var r Report
	gap := -1 // where the current run of lost requests began
	for seq, p := range c.probes {
		if p.answered.IsZero() && r.Sent == 0 {
			r.Before++
			continue
		}
		if p.answered.IsZero() && time.Since(p.sent) < inFlight {
			break
		}
		r.Sent++
		switch {
		case p.answered.IsZero():
			r.Lost++
			if gap < 0 {
				gap = seq
			}
		case gap >= 0:
			r.Gaps = append(r.Gaps, Gap{From: c.probes[gap].sent, To: p.sent, Lost: seq - gap})
			gap = -1
		}
	}
	if gap >= 0 {
		last := r.Before + r.Sent - 1
		r.Gaps = append(r.Gaps, Gap{From: c.probes[gap].sent, To: c.probes[last].sent.Add(ClientInterval), Lost: last + 1 - gap})
	}
	for _, seq := range c.order {
		p := c.probes[seq]
		r.Owned = extend(r.Owned, c.lab.NameOf(net.HardwareAddr(p.mac[:])), p.answered)
	}
	return r
}

// extend counts an answer, which begins a new reign if it's another host's.
func extend(reigns []Reign, host string, at time.Time) []Reign {
	if n := len(reigns); n > 0 && reigns[n-1].Host == host {
		reigns[n-1].Last = at
		reigns[n-1].Answers++
		return reigns
	}
	return append(reigns, Reign{Host: host, First: at, Last: at, Answers: 1})
}

// Longest returns the longest gap, or the zero Gap if nothing was lost.
func (r Report) Longest() Gap {
	var longest Gap
	for _, g := range r.Gaps {
		if g.Length() > longest.Length() {
			longest = g
		}
	}
	return longest
}

// Hosts returns who answered, in order.
func (r Report) Hosts() []string { return HostsOf(r.Owned) }

// String says it in one line.
func (r Report) String() string {
	return fmt.Sprintf("answered by %s; %d of %d requests lost, at most %v without an answer",
		strings.Join(r.Hosts(), ", then "), r.Lost, r.Sent, r.Longest().Length().Round(ClientInterval/10))
}
