package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// leaderTries is how often a repetition is tried if Consul elects another leader
// meanwhile.
const leaderTries = 3

// item is a part of the plan: the repetitions of a failure with some peers. Each has the
// peers that run side by side in it.
type item struct {
	scenario scenario
	trials   [][]peer
}

// repetitions returns how often a peer is measured: consul-vip as often as the command
// line says, the others half as often, and each half as often again with a web server,
// where the requests of one repetition are thousands.
func (o options) repetitions(p peer, sc scenario) int {
	n := o.n
	if _, ours := p.(consulVIP); !ours {
		n = (n + 1) / 2
	}
	if sc.web {
		n = (n + 1) / 2
	}
	return n
}

// plan returns what is to be run in a world. Takeovers within milliseconds are measured
// alone. Takeovers within seconds do not disturb each other and run side by side, which
// saves time, and so does it to measure peers without Consul in the first world only.
func plan(o options, w lab.World) []item {
	var items []item
	for _, sc := range scenarios(w) {
		for _, together := range groups(sc) {
			together = slices.DeleteFunc(together, func(p peer) bool {
				return !sc.applies(p) || o.adopts(p, w) || !o.only.MatchString(key{p.name(), sc.name}.String())
			})
			if trials := o.trials(sc, together); len(trials) > 0 {
				items = append(items, item{sc, trials})
			}
		}
	}
	return items
}

// adopts reports whether a world has the results of a peer from the first one.
func (o options) adopts(p peer, w lab.World) bool { return w != o.worlds[0] && !p.needsConsul() }

// trials returns the peers of each repetition of a group.
func (o options) trials(sc scenario, together []peer) (trials [][]peer) {
	if len(together) == 1 && sc.sideBySide(together[0]) {
		return [][]peer{slices.Repeat(together, o.repetitions(together[0], sc))}
	}
	for n := 0; ; n++ {
		left := slices.DeleteFunc(slices.Clone(together), func(p peer) bool { return n >= o.repetitions(p, sc) })
		if len(left) == 0 {
			return trials
		}
		trials = append(trials, left)
	}
}

// groups returns the peers of a failure in groups that run side by side.
func groups(sc scenario) [][]peer {
	slow, medium, fast := keepalived{time.Second}, keepalived{100 * time.Millisecond}, keepalived{10 * time.Millisecond}
	switch {
	case sc.name == plannedStop || sc.web:
		return [][]peer{{consulVIP{}}, {overIPv6}, {slow}, {medium}, {fast}, {consulLock{}}}
	case sc.ofHost:
		return [][]peer{{consulVIP{}}, {quickCheck}, {overIPv6}, {slow, medium, consulLock{}}, {fast}}
	}
	return [][]peer{{consulVIP{}}, {overIPv6}, {slow, medium}, {fast}, {consulLock{}}}
}

// runAll runs the plan. After an interrupt it returns the results so far.
func (b *benchLab) runAll(ctx context.Context, items []item) results {
	all := make(results)
	for number, i := range items {
		for repetition, together := range i.trials {
			if ctx.Err() != nil {
				return all
			}
			b.logf("%d of %d: %s, %d of %d", number+1, len(items), i.scenario.name, repetition+1, len(i.trials))
			found := b.runTrial(ctx, i.scenario, together, repetition)
			if ctx.Err() != nil {
				return all
			}
			for n, r := range found {
				k := key{together[n].name(), i.scenario.name}
				b.logf("    %s: %s", k.peer, r)
				all[k] = append(all[k], r)
			}
		}
	}
	return all
}

// runTrial runs one repetition, again if Consul has elected another leader meanwhile.
func (b *benchLab) runTrial(ctx context.Context, sc scenario, together []peer, repetition int) (found []result) {
	for range leaderTries {
		found = b.newTrial(sc, together, repetition).run(ctx)
		if !errors.Is(found[0].err, errLeaderMoved) {
			break
		}
	}
	return found
}
