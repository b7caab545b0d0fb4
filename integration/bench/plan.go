package main

import (
	"context"
	"slices"
	"time"
)

// item is a part of the plan: a crew of peers that go through a failure side by
// side, some times.
type item struct {
	scenario    scenario
	crew        []peer
	repetitions int
}

// plan returns what is to be run. Figures of milliseconds are measured alone;
// what is about seconds is not in each other's way, and that saves a quarter of
// an hour.
func plan(o options) []item {
	var items []item
	for _, sc := range scenarios() {
		for _, crew := range crews(sc) {
			crew = slices.DeleteFunc(crew, func(p peer) bool {
				return !o.only.MatchString(key{p.name(), sc.name}.String())
			})
			switch {
			case len(crew) == 0:
			case len(crew) == 1 && sc.takesLong(crew[0]):
				items = append(items, item{sc, slices.Repeat(crew, o.n), 1})
			default:
				items = append(items, item{sc, crew, o.n})
			}
		}
	}
	return items
}

// crews says which peers go through a failure together.
func crews(sc scenario) [][]peer {
	seldom, often, all := keepalived{time.Second}, keepalived{100 * time.Millisecond}, keepalived{10 * time.Millisecond}
	switch {
	case sc.name == "planned stop":
		return [][]peer{{consulVIP{}}, {seldom}, {often}, {all}, {consulLock{}}}
	case sc.ofConsul:
		return [][]peer{{consulVIP{}, consulLock{}}}
	case sc.ofHost:
		return [][]peer{{consulVIP{}, consulLock{}}, {seldom, often}, {all}}
	}
	return [][]peer{{consulVIP{}}, {seldom, often}, {all}, {consulLock{}}}
}

// runAll runs what is planned. After an interrupt it returns what there is.
func (s *stage) runAll(ctx context.Context, items []item) results {
	all := make(results)
	for number, i := range items {
		for repetition := range i.repetitions {
			if ctx.Err() != nil {
				return all
			}
			s.logf("%d of %d: %s, %d of %d", number+1, len(items), i.scenario.name, repetition+1, i.repetitions)
			t := s.newTrial(i.scenario, i.crew, repetition)
			found := t.run(ctx)
			if ctx.Err() != nil {
				return all
			}
			for n, r := range found {
				k := key{i.crew[n].name(), i.scenario.name}
				s.logf("    %s: %s", k.peer, r)
				all[k] = append(all[k], r)
			}
		}
	}
	return all
}
