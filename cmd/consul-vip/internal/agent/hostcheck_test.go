package agent

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
	"github.com/consul-vip/consul-vip/netif"
)

var ownerHost = Owner{Interface: "eth0", MAC: "02:00:00:00:00:22", Host: "10.0.0.22"}

// ownedBy returns the keys with locks that node h2 holds, its host as given.
func ownedBy(owner Owner, session string, index uint64, vips ...string) *leasestate.State {
	keys := leasestate.NewKeys("p")
	var pairs api.KVPairs
	for _, vip := range vips {
		record := leasestate.Record{State: leasestate.RecordHeld, Node: "h2", Session: session, Owner: owner.encode()}
		pairs = append(pairs, &api.KVPair{Key: keys.Lock(vip), Value: record.Encode(), Session: session, ModifyIndex: index})
	}
	for _, node := range []string{"h2", "h3"} {
		m := leasestate.Member{Node: node, Session: "session of " + node}
		if node == "h3" {
			d, _ := leasestate.NewOwner(Description{[]DescribedLink{{Interface: "eth0", MACs: []string{"02:00:00:00:00:33"}, Addrs: prefixes("10.0.0.33/24")}}})
			m.Owner = d
		}
		pairs = append(pairs, &api.KVPair{Key: keys.Member(node), Value: m.Encode(), Session: m.Session, ModifyIndex: 1})
	}
	return leasestate.New(keys, pairs, index)
}

func prefixes(texts ...string) (prefixes []netip.Prefix) {
	for _, text := range texts {
		prefixes = append(prefixes, netip.MustParsePrefix(text))
	}
	return prefixes
}

// onSegment gives the host an own address.
func onSegment(h *fakeHost) {
	h.identity = map[int]netif.Identity{7: {Addrs: prefixes("10.0.0.11/24"), Gateway: netip.MustParseAddr("10.0.0.254")}}
}

// setKeys lets Consul show keys, and waits until the agent has looked at them.
func (h *fakeHost) setKeys(keys *leasestate.State, inLine map[string]int) {
	h.mu.Lock()
	h.inLine = inLine
	h.mu.Unlock()
	h.keys.Set(keys)
	synctest.Wait()
	time.Sleep(lineDebounce)
	synctest.Wait()
}

// running returns the checks that run.
func (h *fakeHost) runningChecks() (running []*hostCheckCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.checks {
		if !c.ended {
			running = append(running, c)
		}
	}
	return running
}

func (h *fakeHost) dead(vip string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.contenders[vip].lock.Dead
}

func (c *hostCheckCall) report(s announcer.HostState) {
	c.changed(s)
	synctest.Wait()
}

func TestTheFirstTwoInLineCheckAHost(t *testing.T) {
	const vip = "10.0.0.1"
	noAddress, ours := ownerHost, ownerHost
	noAddress.Host, ours.MAC = "", "02:00:00:00:00:07"
	for name, test := range map[string]struct {
		lines  string
		owner  Owner
		inLine map[string]int
		checks int
	}{
		"first":                   {"", ownerHost, map[string]int{vip: 0}, 1},
		"second":                  {"", ownerHost, map[string]int{vip: 1}, 1},
		"third":                   {"", ownerHost, map[string]int{vip: 2}, 0},
		"no candidate":            {"", ownerHost, nil, 0},
		"strict":                  {`takeover = "strict"`, ownerHost, map[string]int{vip: 0}, 0},
		"off":                     {"host_check { misses = 0 }", ownerHost, map[string]int{vip: 0}, 0},
		"an older owner":          {"", noAddress, map[string]int{vip: 0}, 0},
		"this host, another name": {"", ours, map[string]int{vip: 0}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			runFakeHost(t, configured(t, "", vip+" "+test.lines), onSegment, func(h *fakeHost) {
				h.setKeys(ownedBy(test.owner, "s2", 5, vip), test.inLine)
				assert.Len(t, h.runningChecks(), test.checks)
			})
		})
	}
}

func TestOneCheckForAllAddressesOfAHost(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1", "10.0.0.2", "10.0.0.3 host_check { misses = 5 }"), onSegment, func(h *fakeHost) {
		all := map[string]int{"10.0.0.1": 0, "10.0.0.2": 1, "10.0.0.3": 0}
		h.setKeys(ownedBy(ownerHost, "s2", 5, "10.0.0.1", "10.0.0.2", "10.0.0.3"), all)
		checks := h.runningChecks()
		require.Len(t, checks, 2, "one for each setting")
		for _, c := range checks {
			assert.Equal(t, ownerHost.host(), c.Host)
			assert.Equal(t, netip.MustParseAddr("10.0.0.11"), c.Source)
			assert.Equal(t, announcer.Witnesses{
				Gateway: announcer.Host{Addr: netip.MustParseAddr("10.0.0.254")},
				Others:  []announcer.Host{{Addr: netip.MustParseAddr("10.0.0.33"), MACs: parseMACs([]string{"02:00:00:00:00:33"})}},
			}, c.Witnesses())
		}
		canary := checks[0].Canary
		assert.Contains(t, []string{"10.0.0.1", "10.0.0.3"}, canary().Addr.String())
		h.keys.Set(ownedBy(ownerHost, "s2", 6, "10.0.0.2"))
		assert.Contains(t, []string{"10.0.0.2", "invalid IP"}, canary().Addr.String(), "the others were handed over")
		h.setKeys(ownedBy(ownerHost, "s2", 7, "10.0.0.1"), all)
		assert.Len(t, h.runningChecks(), 1)
		h.setKeys(ownedBy(ownerHost, "s2", 8), all)
		assert.Empty(t, h.runningChecks())
	})
}

// diesNow reports that the host has not answered any more from now on.
func (c *hostCheckCall) diesNow() {
	since := time.Now()
	time.Sleep(c.Interval * time.Duration(c.Misses))
	c.report(announcer.HostState{Heard: 100, Dead: true, Since: since})
}

// isHeard reports that the host answers, which it has done for a while.
func (c *hostCheckCall) isHeard() {
	time.Sleep(c.Interval * time.Duration(c.Misses))
	c.report(announcer.HostState{Heard: 100, Since: time.Now()})
}

func TestADeadHostLosesItsAddresses(t *testing.T) {
	vips := []string{"10.0.0.1", "10.0.0.2"}
	inLine := map[string]int{vips[0]: 0, vips[1]: 0}
	runFakeHost(t, configured(t, "", vips...), onSegment, func(h *fakeHost) {
		h.setKeys(ownedBy(ownerHost, "s2", 5, vips[0]), inLine)
		check := h.runningChecks()[0]
		check.isHeard()
		h.setKeys(ownedBy(ownerHost, "s2", 6, vips...), inLine)
		check.diesNow()
		assert.Equal(t, "s2", h.dead(vips[0]))
		assert.Empty(t, h.dead(vips[1]), "not heard since it became the owner")

		h.setKeys(ownedBy(ownerHost, "s3", 7, vips...), inLine)
		assert.Empty(t, h.dead(vips[0]), "another session has the lock")
		assert.Len(t, h.logged("a host does not answer on the wire", "node"), 1)
	})
}

func TestAHostThatWasNotDead(t *testing.T) {
	const vip = "10.0.0.1"
	inLine := map[string]int{vip: 0}
	runFakeHost(t, configured(t, "", vip), onSegment, func(h *fakeHost) {
		h.setKeys(ownedBy(ownerHost, "s2", 5, vip), inLine)
		for _, misses := range []int{8, 16, 32, 32} {
			checks := h.runningChecks()
			require.Len(t, checks, 1)
			assert.Equal(t, misses, checks[0].Misses)
			checks[0].isHeard()
			checks[0].diesNow()
			require.Equal(t, "s2", h.dead(vip))
			checks[0].isHeard()
			require.Empty(t, h.dead(vip))
			time.Sleep(lineDebounce)
			synctest.Wait()
		}
		check := h.runningChecks()[0]
		check.isHeard()
		check.diesNow()
		time.Sleep(wronglyDead)
		check.isHeard()
		time.Sleep(lineDebounce)
		synctest.Wait()
		assert.Len(t, h.logged("the host was not dead: it may miss more from now on", "node"), 4)
		time.Sleep(doubledFor)
		h.setKeys(ownedBy(ownerHost, "s2", 8, vip), inLine)
		assert.Equal(t, 8, h.runningChecks()[0].Misses, "after a day")
	})
}

// A host whose addresses were all taken is still checked for a while: it may come back.
func TestADeadHostIsHeardAgain(t *testing.T) {
	const vip = "10.0.0.1"
	runFakeHost(t, configured(t, "", vip), onSegment, func(h *fakeHost) {
		h.setKeys(ownedBy(ownerHost, "s2", 5, vip), map[string]int{vip: 0})
		check := h.runningChecks()[0]
		check.isHeard()
		check.diesNow()
		h.setKeys(ownedBy(ownerHost, "s2", 6), nil)
		require.Len(t, h.runningChecks(), 1)
		time.Sleep(wronglyDead)
		synctest.Wait()
		assert.Empty(t, h.runningChecks())
	})
}

func TestHostCheckWithoutAWitness(t *testing.T) {
	const vip = "10.0.0.1"
	alone := func(h *fakeHost) {
		h.identity = map[int]netif.Identity{7: {Addrs: prefixes("192.168.0.11/24", "10.0.0.11/29")}}
	}
	runFakeHost(t, configured(t, "", vip), alone, func(h *fakeHost) {
		h.setKeys(ownedBy(ownerHost, "s2", 5, vip), map[string]int{vip: 0})
		assert.Equal(t, []any{"h2"}, h.logged("host check without effect: no witness, neither a gateway nor a third member, can prove that this host is heard", "node"))
	})
}

// Keys that change while the loop does something else are not overlooked.
func TestKeysThatChangeMeanwhile(t *testing.T) {
	const vip = "10.0.0.1"
	runFakeHost(t, configured(t, "", vip), onSegment, func(h *fakeHost) {
		time.Sleep(lineDebounce) // the checks of the start are over
		synctest.Wait()
		h.mu.Lock()
		h.inLine = map[string]int{vip: 0}
		h.mu.Unlock()
		h.onPrioritize = func() { h.keys.Set(ownedBy(ownerHost, "s2", 5, vip)) }
		h.priority <- 1
		synctest.Wait()
		time.Sleep(lineDebounce)
		synctest.Wait()
		assert.Len(t, h.runningChecks(), 1)
	})
}
