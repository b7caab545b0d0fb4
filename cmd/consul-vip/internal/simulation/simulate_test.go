package simulation

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seed    = flag.Uint64("seed", 1, "`seed` of the faults")
	faults  = flag.Int("faults", 400, "`number` of faults")
	only    = flag.Uint64("only", 0, "run only the cluster with this `seed`, as a violation names it")
	without = flag.String("without", "", "leave out the kinds of faults that match this `regexp`")
	within  = flag.String("kinds", "", "inject only the kinds of faults that match this `regexp`; it must match a pause and a move")
	out     = flag.String("out", "", "`directory` for the logs of violations; default: a temporary one")
)

// perCluster is how many faults one cluster gets.
const perCluster = 40

// TestSimulate runs as many clusters as the faults need.
func TestSimulate(t *testing.T) {
	if *out == "" {
		*out = filepath.Join(os.TempDir(), "consul-vip-simulation")
	}
	if *without != "" {
		leaveOut(regexp.MustCompile(*without))
	}
	if *within != "" {
		keepOnly(regexp.MustCompile(*within))
	}
	began := time.Now()
	t.Run("cluster", func(t *testing.T) {
		for _, seed := range seeds() {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				simulate(t, seed, perCluster)
			})
		}
	})
	fmt.Printf("in %s:\n%s\n", time.Since(began).Round(time.Millisecond), stats)
}

// seeds are those of the clusters.
func seeds() (seeds []uint64) {
	if *only != 0 {
		return []uint64{*only}
	}
	for i := range (*faults + perCluster - 1) / perCluster {
		seeds = append(seeds, *seed*1_000_000+uint64(i))
	}
	return seeds
}

// stuckAfter is the real time in which a cluster ends. One that does not has a loop in
// which no time passes, or a goroutine that waits for a mutex.
const stuckAfter = 90 * time.Second

// simulate runs one cluster.
func simulate(t *testing.T, seed uint64, n int) {
	var running atomic.Pointer[cluster]
	defer time.AfterFunc(stuckAfter, func() { stuck(seed, running.Load()) }).Stop()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(seed)
		running.Store(c)
		rounds := c.drawRounds(seed, n)
		c.run(rounds)
		stats.add(c, rounds)
		if c.failures.any() {
			t.Errorf("seed %d: %s\nlog: %s", seed, &c.failures, c.write(t, seed, rounds))
		}
	})
}

// stuck ends the test with all that helps to find the reason.
func stuck(seed uint64, c *cluster) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	panic(fmt.Sprintf("seed %d is stuck:\n%s\n%s", seed, c.log, stacks))
}

// write writes the log of a violation and returns its name.
func (c *cluster) write(t *testing.T, seed uint64, rounds [][]fault) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\n%s\n\n", seed, &c.failures)
	for i, round := range rounds {
		for _, f := range round {
			fmt.Fprintf(&b, "round %d: %s\n", i, f)
		}
	}
	fmt.Fprintf(&b, "\n%+v\n\n%s", c.base, c.log)
	name := filepath.Join(*out, fmt.Sprintf("%d.log", seed))
	if err := os.MkdirAll(*out, 0o755); err != nil {
		t.Log(err)
	}
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		t.Log(err)
	}
	return name
}
