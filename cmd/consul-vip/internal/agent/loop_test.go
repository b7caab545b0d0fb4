package agent

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

// An address that another program has bound keeps no other from running, and runs as
// soon as that program has removed it.
func TestForeignAddressAtTheStart(t *testing.T) {
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	bound := func(h *fakeHost) { h.setForeign(two) }
	runFakeHost(t, configured(t, "", "10.0.0.1", "10.0.0.2"), bound, func(h *fakeHost) {
		assert.Equal(t, []netip.Addr{one}, h.cleared)
		require.NoError(t, h.ineligible("10.0.0.1"))
		require.ErrorIs(t, h.ineligible("10.0.0.2"), netif.ErrForeign)
		h.since(func() { h.events <- netif.AddressRemoved{Index: 1, Addr: two} })
		require.Error(t, h.ineligible("10.0.0.2"), "it is on another interface still")
		h.setForeign()
		h.since(func() { h.events <- netif.AddressRemoved{Index: 1, Addr: two} })
		require.NoError(t, h.ineligible("10.0.0.2"))
		h.setForeign(one)
		h.since(func() { h.events <- netif.AddressForeign{Index: 1, Addr: one} })
		require.ErrorIs(t, h.ineligible("10.0.0.1"), netif.ErrForeign)
		h.setForeign()
		h.since(func() { h.events <- netif.Resync{} })
		require.NoError(t, h.ineligible("10.0.0.1"), "events were lost")
	})
}

func TestNoStartIfAllAddressesAreForeign(t *testing.T) {
	bound := func(h *fakeHost) { h.setForeign(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")) }
	runFakeHost(t, configured(t, "", "10.0.0.1", "10.0.0.2"), bound, func(h *fakeHost) {
		err := <-h.result
		require.ErrorIs(t, err, netif.ErrForeign)
		h.result <- err
	})
}

// The first failure of a VIP ends all of them, unless the VIP was told to end.
func TestFailures(t *testing.T) {
	fails := func(h *fakeHost) { h.ends["10.0.0.2"] = lease.End{Kind: lease.SessionLost, Reason: errTest} }
	runFakeHost(t, configured(t, "", "10.0.0.1"), fails, func(h *fakeHost) {
		calls := h.since(func() { h.reload <- configured(t, "", "10.0.0.1", "10.0.0.2") })
		assert.Equal(t, []string{
			"contend for 10.0.0.2", "leave", "release 10.0.0.1: " + errTest.Error(),
		}, calls[:3])
		err := <-h.result
		require.ErrorIs(t, err, errTest)
		h.result <- err
	})
	removed := func(h *fakeHost) { h.stopEnd = lease.End{Kind: lease.LockLost, Reason: errTest} }
	runFakeHost(t, configured(t, "", "10.0.0.1", "10.0.0.2"), removed, func(h *fakeHost) {
		h.since(func() { h.reload <- configured(t, "", "10.0.0.1") })
		time.Sleep(time.Minute)
		assert.Empty(t, h.result, "a removed VIP may fail")
	})
}

func TestStartFailsWithoutAnInterface(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1", `10.0.0.2 interface = "eth9"`), nil, func(h *fakeHost) {
		err := <-h.result
		require.ErrorIs(t, err, errNoLink)
		assert.Equal(t, []string{"open eth0", "close eth0"}, h.recorded())
		h.result <- err
	})
}

func TestPriority(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1"), nil, func(h *fakeHost) {
		assert.Equal(t, []string{"prioritize -2"}, h.since(func() { h.priority <- -2 }))
	})
}

// Events reach a VIP that a reload has added, and its link also knows the events from
// before the reload.
func TestEventsAfterAReload(t *testing.T) {
	addr := netip.MustParseAddr("10.0.0.2")
	runFakeHost(t, configured(t, "", "10.0.0.1"), nil, func(h *fakeHost) {
		h.since(func() { h.events <- netif.LinkChanged{Index: 8, Name: "eth1"} })
		h.since(func() { h.reload <- configured(t, "", "10.0.0.1", `10.0.0.2 interface = "eth1"`) })
		v := h.agent.slots[addr].vip
		link, _ := v.link.state.Get()
		assert.False(t, link.up)
		require.ErrorIs(t, h.ineligible(addr.String()), errLinkDown)
		assert.Equal(t, []string{"update 10.0.0.2: 100, 0s"}, h.since(func() {
			h.events <- netif.LinkChanged{Index: 8, Name: "eth1", Up: true}
		}))
		h.since(func() {
			h.events <- netif.AddressRemoved{Index: 7, Addr: addr} // on another interface
		})
		assert.Empty(t, v.missing)
		h.since(func() {
			h.events <- netif.AddressRemoved{Index: 8, Addr: addr}
			h.events <- netif.AddressForeign{Index: 8, Addr: addr}
			h.events <- netif.AddressRemoved{Index: 8, Addr: netip.MustParseAddr("10.0.0.99")}
		})
		assert.Len(t, v.missing, 1)
		assert.Len(t, v.taken, 1)
	})
}

// The record has to name the current MAC: in a handover the successor expects released
// from it.
func TestNewMACReachesTheLock(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1"), nil, func(h *fakeHost) {
		vip := h.agent.slots[netip.MustParseAddr("10.0.0.1")].vip
		up := netif.LinkChanged{Index: vip.link.index, Name: vip.link.name, Up: true, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 77}}
		calls := h.since(func() { h.events <- up })
		assert.Contains(t, calls, "update 10.0.0.1: 100, 0s")
		assert.Equal(t, "02:00:00:00:00:4d", DecodeOwner(vip.lock().Owner).MAC)
		assert.NotContains(t, h.since(func() { h.events <- up }), "update 10.0.0.1: 100, 0s", "the MAC is the same")
	})
}
