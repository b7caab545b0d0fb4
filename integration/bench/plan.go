package main

import (
	"context"
	"slices"
	"time"
)

// item is a part of the plan: some repetitions of a failure, each with these peers
// side by side.
type item struct {
	scenario    scenario
	together    []peer
	repetitions int
}

// plan returns what is to be run. Takeovers within milliseconds are measured alone.
// Takeovers within seconds do not disturb each other and run side by side, which saves
// a quarter of an hour.
func plan(o options) []item {
	var items []item
	for _, sc := range scenarios() {
		for _, together := range groups(sc) {
			together = slices.DeleteFunc(together, func(p peer) bool {
				return !o.only.MatchString(key{p.name(), sc.name}.String())
			})
			switch {
			case len(together) == 0:
			case len(together) == 1 && sc.takesLong(together[0]):
				items = append(items, item{sc, slices.Repeat(together, o.n), 1})
			default:
				items = append(items, item{sc, together, o.n})
			}
		}
	}
	return items
}

// groups returns the peers of a failure in groups that run side by side.
func groups(sc scenario) [][]peer {
	slow, medium, fast := keepalived{time.Second}, keepalived{100 * time.Millisecond}, keepalived{10 * time.Millisecond}
	switch {
	case sc.name == "planned stop":
		return [][]peer{{consulVIP{}}, {slow}, {medium}, {fast}, {consulLock{}}}
	case sc.ofConsul:
		return [][]peer{{consulVIP{}, consulLock{}}}
	case sc.ofHost:
		return [][]peer{{consulVIP{}, consulLock{}}, {slow, medium}, {fast}}
	}
	return [][]peer{{consulVIP{}}, {slow, medium}, {fast}, {consulLock{}}}
}

// runAll runs the plan. After an interrupt it returns the results so far.
func (b *benchLab) runAll(ctx context.Context, items []item) results {
	all := make(results)
	for number, i := range items {
		for repetition := range i.repetitions {
			if ctx.Err() != nil {
				return all
			}
			b.logf("%d of %d: %s, %d of %d", number+1, len(items), i.scenario.name, repetition+1, i.repetitions)
			found := b.newTrial(i.scenario, i.together, repetition).run(ctx)
			if ctx.Err() != nil {
				return all
			}
			for n, r := range found {
				k := key{i.together[n].name(), i.scenario.name}
				b.logf("    %s: %s", k.peer, r)
				all[k] = append(all[k], r)
			}
		}
	}
	return all
}
