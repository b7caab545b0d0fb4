package agent

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
	"github.com/consul-vip/consul-vip/netif"
)

var (
	memberMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0x33} // of h3
	victimMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}    // of h2
)

// takenFromH2 returns the facts of a lock that was taken from h2, which was heard last
// a second before.
func takenFromH2(f *fakeVIP) tenure {
	t := crashed
	t.victim = &victim{
		node: "h2", host: announcer.Host{MACs: []net.HardwareAddr{victimMAC}}, sure: true,
		dead: dead{"s2", time.Now().Add(-time.Second), time.Now()},
	}
	return t
}

// An address that was taken from a dead host is bound at once, unless anything is open.
func TestTakenFromADeadHost(t *testing.T) {
	proof := "prove 02:00:00:00:00:02 for 15s"
	for name, test := range map[string]struct {
		change func(*fakeVIP, *victim)
		calls  []string
	}{
		"certainly dead":     {func(*fakeVIP, *victim) {}, nil},
		"not sure":           {func(_ *fakeVIP, v *victim) { v.sure = false }, []string{proof}},
		"heard meanwhile":    {func(f *fakeVIP, _ *victim) { f.heardAt = time.Now() }, []string{proof}},
		"heard, then bound":  {func(f *fakeVIP, _ *victim) { f.onConfirm = func() { f.heardAt = time.Now() } }, []string{"confirm", proof}},
		"heard before death": {func(f *fakeVIP, v *victim) { f.heardAt = v.dead.since }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				facts := takenFromH2(f)
				if name == "heard, then bound" {
					f.uncertain.Store(true)
				}
				test.change(f, facts.victim)
				assert.Equal(t, holdEnded, f.serve(t, facts, stopAtOnce).how)
				assert.Equal(t, with(test.calls, bindsAndReleases), f.recorded())
			})
		})
	}
}

func TestWhomALockWasTakenFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.vip.setDead(&dead{session: "s2"})
		assert.Equal(t, "s2", f.contender.last().Dead)
		held := &lease.Held{Previous: leasestate.Record{State: leasestate.RecordHeld, Node: "h2", Session: "s2"}, TookFrom: "h2", Answered: true, Before: crashed.before}
		victimOf := func() *victim { return f.vip.victimOf(held) }
		assert.True(t, victimOf().sure)
		held.Before = []leasestate.Before{h2, h3}
		assert.False(t, victimOf().sure, "somebody else was before")
		held.Before, held.Answered = crashed.before, false
		assert.False(t, victimOf().sure, "another try may have been answered")
		held.Answered, held.Previous.Session = true, "s3"
		assert.False(t, victimOf().sure, "the host of another session is dead")
		f.vip.setDead(nil)
		assert.Empty(t, f.contender.last().Dead)
	})
}

// A previous owner that was only silent is back, and claims the address until it hears
// the new owner.
func TestAPreviousOwnerIsBack(t *testing.T) {
	for name, facts := range map[string]func(*fakeVIP) tenure{
		"taken from it":     takenFromH2,
		"silence was proof": func(f *fakeVIP) tenure { f.proof.By = announcer.ProvedByWitness; return crashed },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.serve(t, facts(f), func(stop stopper) {
					before := len(f.recorded())
					f.claim(victimMAC)
					assert.Equal(t, []string{"confirm", "announce again"}, f.recorded()[before:])
					f.vip.heard.Set()
					synctest.Wait()
					assert.Equal(t, []string{"announce again"}, f.recorded()[before+2:])
					stop(stopped)
				})
			})
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				o := f.serve(t, facts(f), func(stopper) {
					time.Sleep(f.vip.cfg().DeadMan + time.Second)
					f.vip.heard.Set()
					synctest.Wait()
					assert.NotContains(t, f.recorded(), "announce again")
					f.claim(victimMAC)
				})
				assert.Equal(t, conflict, o.how, "its lifetime has ended by then")
			})
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				o := f.serve(t, facts(f), func(stopper) {
					f.lost.Store(true)
					f.claim(victimMAC)
				})
				assert.Equal(t, holdEnded, o.how, "the lock is its own again")
				assert.NotContains(t, f.recorded(), "announce again")
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		o := f.serve(t, crashed, func(stopper) { f.claim(victimMAC) })
		assert.Equal(t, conflict, o.how, "it has proved its release")
	})
}

var memberGateway = netip.MustParseAddr("10.0.0.254")

// withMembers lets Consul show the member h3 and its MAC.
func withMembers(f *fakeVIP) { f.keys = ownedBy(ownerHost, "s2", 5) }

// onMembersSegment gives this host an address beside the member h3, and a gateway.
func onMembersSegment(f *fakeVIP) {
	withMembers(f)
	state, _ := f.vip.link.state.Get()
	state.identity = netif.Identity{Addrs: prefixes("10.0.0.11/24"), Gateway: memberGateway}
	f.vip.link.state.Set(state)
}

// A claim of a member is one of the next owner, or a conflict, and only Consul knows.
func TestClaimOfAMember(t *testing.T) {
	for name, test := range map[string]struct {
		lost   bool
		policy config.OnConflict
		want   how
	}{
		"lock taken":         {true, config.ConflictExit, holdEnded},
		"lock held":          {false, config.ConflictExit, conflict},
		"lock held, defend":  {false, config.ConflictDefend, holdEnded},
		"lock taken, defend": {true, config.ConflictDefend, holdEnded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(func(c *config.VIP) { c.OnConflict = test.policy })
				withMembers(f)
				f.lost.Store(test.lost)
				o := f.serve(t, free, func(stop stopper) {
					time.Sleep(time.Second)
					f.claim(memberMAC)
					assert.Equal(t, []string{"bind", "bound", "announce", "unbind", "confirm"}, f.recorded()[:5])
					if test.want == holdEnded && !test.lost {
						assert.Contains(t, f.recorded()[5:], "bind", "it is still ours")
						stop(stopped)
					}
				})
				assert.Equal(t, test.want, o.how)
			})
		})
	}
	t.Run("Consul silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			withMembers(f)
			f.silent.Store(true)
			o := f.serve(t, free, func(stop stopper) {
				f.claim(memberMAC)
				time.Sleep(10 * confirmTimeout)
				assert.Equal(t, "confirm", f.recorded()[len(f.recorded())-1], "unbound until Consul answers")
				stop(lease.End{Kind: lease.Taken, Reason: errTest})
			})
			assert.Equal(t, holdEnded, o.how)
			require.NoError(t, f.vip.exit(lease.End{Kind: lease.Taken, Reason: errTest}, o), "no exit")
		})
	})
}

// A broadcast may overtake an answer of the owner that hands over.
func TestAnswerAfterReleased(t *testing.T) {
	for late, want := range map[time.Duration]how{lateAnswer - 1: holdEnded, lateAnswer: conflict} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			f.releasedAt = time.Now()
			o := f.serve(t, transferred, func(stop stopper) {
				time.Sleep(late)
				f.claim(victimMAC)
				if want == holdEnded {
					stop(stopped)
				}
			})
			assert.Equal(t, want, o.how)
		})
	}
}

// An owner that hears nobody gives the address up until Consul confirms the lock.
func TestIsolation(t *testing.T) {
	run := func(prepare func(*fakeVIP), want []string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			onMembersSegment(f)
			prepare(f)
			f.serve(t, free, func(stop stopper) {
				time.Sleep(refreshInterval + confirmTimeout + time.Millisecond)
				synctest.Wait()
				got := f.recorded()[3:]
				assert.Equal(t, want, got[:min(len(got), len(want))])
				assert.Equal(t, slices.Contains(want, "unbind"), slices.Contains(got, "unbind"))
				f.silent.Store(false)
				f.confirm()
				time.Sleep(2 * refreshInterval)
				synctest.Wait()
				assert.NotContains(t, f.recorded()[len(f.recorded())-1], "unbind", "bound again")
				stop(stopped)
			})
		})
	}
	run(func(f *fakeVIP) { f.silent.Store(true) }, []string{"ask the witnesses", "confirm", "unbind"})
	run(func(f *fakeVIP) { f.silent.Store(true); f.witnessed = true }, []string{"ask the witnesses"})
	run(func(*fakeVIP) {}, []string{"ask the witnesses", "confirm"})
	run(func(f *fakeVIP) { f.silent.Store(true); f.heardAt = time.Now().Add(time.Hour) }, []string{})
}

// All addresses of a link share one look at who was heard.
func TestHeardNobodyIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		assert.True(t, f.vip.link.heardNobody())
		f.heardAt = time.Now()
		time.Sleep(isolatedAfter/4 - 1)
		assert.True(t, f.vip.link.heardNobody())
		time.Sleep(time.Nanosecond)
		assert.False(t, f.vip.link.heardNobody())
	})
}
