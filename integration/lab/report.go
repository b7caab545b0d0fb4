package lab

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// Report is what a client saw. It begins with the first request that was answered;
// the requests before it tell when the address came up. A request counts as lost if
// it was not answered in time; one that may still be answered does not count.
type Report struct {
	Before int // requests before the first one that was answered
	Sent   int // since then
	Lost   int
	Gaps   []Gap   // every run of lost requests, in order
	Owned  []Reign // the hosts that answered, in order
}

// Gap is a run of requests that were not answered.
type Gap struct {
	From time.Time // when the first of them was sent
	To   time.Time // when the next one that was answered was sent, or the end
	Lost int
}

// Length returns how long the address did not answer.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// Reign is a period in which only one host gave answers, or only one host claimed an
// address.
type Reign struct {
	Host        string // the host's name, or its MAC if it is no host of the lab
	First, Last time.Time
	Answers     int // or claims
}

// HostsOf returns the hosts of these periods, in order.
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
	r := reportOn(c.decided(), c.every)
	for _, seq := range c.order {
		answered := c.requests[seq]
		r.Owned = extend(r.Owned, c.clients.segment.nameOf(net.HardwareAddr(answered.mac[:])), answered.answered)
	}
	return r
}

// decided returns the requests up to the first one, after the first answer, that may
// still be answered. c.mu must be locked.
func (c *Client) decided() []request {
	began := false
	for seq, r := range c.requests {
		began = began || !r.answered.IsZero()
		if began && r.answered.IsZero() && !c.stopped && time.Since(r.sent) < answerTimeout {
			return c.requests[:seq]
		}
	}
	return c.requests
}

// reportOn counts the requests, which were sent at this interval, and finds the gaps
// among them.
func reportOn(requests []request, every time.Duration) Report {
	var r Report
	open := false // the last gap has no end yet
	for _, request := range requests {
		lost := request.answered.IsZero()
		if lost && r.Sent == 0 {
			r.Before++
			continue
		}
		r.Sent++
		switch {
		case lost:
			if !open {
				r.Gaps = append(r.Gaps, Gap{From: request.sent})
			}
			r.Lost++
			gap := &r.Gaps[len(r.Gaps)-1]
			gap.Lost++
			gap.To = request.sent.Add(every) // unless a later one is answered
		case open:
			r.Gaps[len(r.Gaps)-1].To = request.sent
		}
		open = lost
	}
	return r
}

// extend counts an answer. It begins a new period if another host gave it.
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

// Hosts returns the hosts that answered, in order.
func (r Report) Hosts() []string { return HostsOf(r.Owned) }

// String returns the report in one line.
func (r Report) String() string {
	return fmt.Sprintf("answered by %s; %d of %d requests lost, at most %v without an answer",
		strings.Join(r.Hosts(), ", then "), r.Lost, r.Sent, r.Longest().Length().Round(ClientInterval/10))
}
