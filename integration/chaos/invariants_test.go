package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return noon.Add(d) }

func TestGrace(t *testing.T) {
	var g grace
	require.False(t, g.overdue(vipOf(0), noon, at(ownerLimit)))
	require.True(t, g.overdue(vipOf(0), noon, at(ownerLimit+1)), "without any fault, the length of the gap counts")
	g.extend(at(10*time.Second), ownerLimit)
	require.False(t, g.overdue(vipOf(0), noon, at(25*time.Second)))
	require.True(t, g.overdue(vipOf(0), noon, at(25*time.Second+1)))
	g.extend(at(11*time.Second), deathLimit)
	g.extend(at(12*time.Second), ownerLimit)
	require.False(t, g.overdue(vipOf(0), noon, at(36*time.Second)), "a shorter limit does not shorten a longer one")
	require.True(t, g.overdue(vipOf(0), noon, at(36*time.Second+1)))
	g.extendOne(vipOf(0), at(0), contestLimit)
	require.False(t, g.overdue(vipOf(0), noon, at(contestLimit)))
	require.True(t, g.overdue(vipOf(0), noon, at(contestLimit+1)))
	require.True(t, g.overdue(vipOf(1), noon, at(36*time.Second+1)), "the limit of one address is that of no other")
}

func TestAnswers(t *testing.T) {
	a := answers{vip: vipOf(0), last: noon, host: "h1"}
	reign := func(host string, first, last time.Duration) lab.Reign {
		return lab.Reign{Host: host, First: at(first), Last: at(last)}
	}
	news, ended := a.look(at(20*time.Millisecond), reign("h1", 0, 10*time.Millisecond))
	require.Empty(t, news)
	require.Nil(t, ended)

	news, ended = a.look(at(30*time.Millisecond), reign("h2", 20*time.Millisecond, 20*time.Millisecond))
	require.Contains(t, news, "h2 answers, 10ms after the last answer of h1")
	require.Nil(t, ended)

	news, _ = a.look(at(20*time.Millisecond+silence), reign("h2", 20*time.Millisecond, 20*time.Millisecond))
	require.Empty(t, news)
	news, _ = a.look(at(20*time.Millisecond+silence+1), reign("h2", 20*time.Millisecond, 20*time.Millisecond))
	require.Contains(t, news, "no host answers")

	var g grace
	require.False(t, a.overdue(at(10*time.Second), &g))
	require.True(t, a.overdue(at(16*time.Second), &g))
	require.False(t, a.overdue(at(17*time.Second), &g), "each gap is reported once")

	// The same host answers again: its period goes on, but there was a gap.
	news, ended = a.look(at(18*time.Second), reign("h2", 20*time.Millisecond, 18*time.Second))
	require.Contains(t, news, "h2 answers, 17.98s after the last answer, by h2")
	require.Equal(t, &gap{vip: vipOf(0), from: at(20 * time.Millisecond), to: at(18 * time.Second)}, ended)
	require.False(t, a.overdue(at(40*time.Second), &g), "it is not silent")
}

func TestDoubles(t *testing.T) {
	double := func(vip int, d time.Duration) lab.Double {
		return lab.Double{Addr: vipOf(vip), At: at(d), Hosts: []string{"h1", "h2"}}
	}
	var d doubles
	news, first := d.look(nil)
	require.Empty(t, news)
	require.Empty(t, first)
	// Ordered by address, as the observer returns them.
	all := []lab.Double{double(0, 0), double(0, 10*time.Millisecond), double(1, 5*time.Millisecond)}
	news, first = d.look(all)
	require.Len(t, news, 3)
	require.Equal(t, []lab.Double{double(0, 0), double(1, 5*time.Millisecond)}, first)
	news, first = d.look(all)
	require.Empty(t, news)
	require.Empty(t, first)
	all = []lab.Double{all[0], all[1], double(0, doubleApart), double(0, time.Minute), all[2]}
	news, first = d.look(all)
	require.Len(t, news, 2)
	require.Equal(t, []lab.Double{double(0, time.Minute)}, first)
}

func TestOrphans(t *testing.T) {
	a, b := vipOf(0), vipOf(1)
	bound := map[netip.Addr][]string{a: {"h1"}, b: {"h2", "h3"}}
	locks := map[netip.Addr]string{a: "h1", b: "h2"}
	var o orphans
	require.Empty(t, o.look(noon, bound, locks))
	require.Empty(t, o.look(at(orphanLimit), bound, locks))
	require.Equal(t, []binding{{b, "h3"}}, o.look(at(orphanLimit+1), bound, locks))
	require.Empty(t, o.look(at(time.Minute), bound, locks), "each is reported once")

	// It held the lock in the meantime, so the time starts anew.
	require.Empty(t, o.look(at(2*time.Minute), bound, map[netip.Addr]string{a: "h1", b: "h3"}))
	require.Empty(t, o.look(at(3*time.Minute), bound, locks))
	require.Equal(t, []binding{{b, "h3"}}, o.look(at(4*time.Minute), bound, locks))

	// No node holds a lock.
	o = orphans{}
	require.Empty(t, o.look(noon, bound, nil))
	require.Equal(t, []binding{{a, "h1"}, {b, "h2"}, {b, "h3"}}, o.look(at(time.Minute), bound, nil))
}

// TestGapsSince has a gap that began before the fault that caused it.
func TestGapsSince(t *testing.T) {
	then := time.Now()
	ms := func(n int) time.Time { return then.Add(time.Duration(n) * time.Millisecond) }
	over := gap{vip: vipOf(0), from: ms(-500), to: ms(-300)}
	caused := gap{vip: vipOf(1), from: ms(-10), to: ms(6000)}
	w := &watch{gaps: []gap{over, caused}, answers: map[netip.Addr]*answers{
		vipOf(2): {vip: vipOf(2), last: ms(-10)},
		vipOf(3): {vip: vipOf(3), last: ms(-10), silent: true},
	}}
	found := w.gapsSince(then)
	require.Len(t, found, 2)
	require.Equal(t, caused, found[0])
	require.Equal(t, vipOf(3), found[1].vip)
}
