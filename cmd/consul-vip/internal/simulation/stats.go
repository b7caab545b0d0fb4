package simulation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// statistics are counted over all clusters of a run. They are safe for concurrent use.
type statistics struct {
	mu       sync.Mutex // guards all following fields
	faults   map[string]int
	overlaps map[string]int
	longest  map[string]time.Duration
	slowest  map[time.Duration]time.Duration // until a cluster was settled, by the limit for it
	virtual  time.Duration
	moves    int

	taken           int                             // locks of hosts that did not answer
	takeovers       int                             // after the death of a host while everything else was well
	slowestTakeover map[time.Duration]time.Duration // of them, by the limit for it
}

var stats = &statistics{faults: map[string]int{}, overlaps: map[string]int{}, longest: map[string]time.Duration{}, slowest: map[time.Duration]time.Duration{}, slowestTakeover: map[time.Duration]time.Duration{}}

func (s *statistics) settled(after, limit time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slowest[limit] = max(s.slowest[limit], after)
}

// took counts a lock that was taken from a host that did not answer.
func (s *statistics) took() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
}

// tookOver counts a takeover after a host's death.
func (s *statistics) tookOver(after, limit time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeovers++
	s.slowestTakeover[limit] = max(s.slowestTakeover[limit], after)
}

// add adds what a cluster has counted.
func (s *statistics) add(c *cluster, rounds [][]fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.virtual += c.log.elapsed()
	for _, round := range rounds {
		for _, f := range round {
			s.faults[f.kind.name]++
		}
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for name, n := range c.net.client.count {
		s.overlaps[name] += n
	}
	for name, d := range c.net.client.longest {
		s.longest[name] = max(s.longest[name], d)
	}
	for _, n := range c.net.client.moves {
		s.moves += n
	}
}

// String is a summary of several lines.
func (s *statistics) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	total := 0
	for _, name := range slices.Sorted(maps.Keys(s.faults)) {
		total += s.faults[name]
		fmt.Fprintf(&b, "  %6d %s\n", s.faults[name], name)
	}
	fmt.Fprintf(&b, "%d faults in %s of virtual time; addresses moved %d times\n", total, s.virtual.Round(time.Second), s.moves)
	fmt.Fprintf(&b, "%d locks taken from hosts that did not answer\n", s.taken)
	fmt.Fprintf(&b, "%d takeovers after the death of a host alone, by the limit for it:\n", s.takeovers)
	for _, limit := range slices.Sorted(maps.Keys(s.slowestTakeover)) {
		fmt.Fprintf(&b, "  %6s within %s\n", limit, s.slowestTakeover[limit].Round(time.Millisecond))
	}
	b.WriteString("everything as it should be after the last fault, by the limit for it:\n")
	for _, limit := range slices.Sorted(maps.Keys(s.slowest)) {
		fmt.Fprintf(&b, "  %6s within %s\n", limit, s.slowest[limit].Round(time.Millisecond))
	}
	b.WriteString("two answers to one question, by the limit that allows them:\n")
	for _, name := range slices.Sorted(maps.Keys(s.overlaps)) {
		fmt.Fprintf(&b, "  %6d %s, the longest %s\n", s.overlaps[name], name, s.longest[name].Round(time.Microsecond))
	}
	return b.String()
}
