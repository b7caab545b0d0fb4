package netif

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// awaitIdentity reads events until the identity of a link is as wanted after an
// IdentityChanged that concerns it.
func awaitIdentity(t testing.TB, h *Host, events <-chan Event, index int, want func(Identity) bool) {
	t.Helper()
	await(t, events, func(e IdentityChanged) bool {
		return (e.Index == index || e.Index == 0) && want(identity(t, h, index))
	})
}

func TestWatchIdentity(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	newVeth(t, "eth1", "peer1")
	events := watch(t, h)
	awaitUp(t, events, "eth0", "peer0", "eth1", "peer1")
	hasMAC := func(name string) func(Identity) bool {
		mac := macOf(t, name)
		return func(i Identity) bool { return len(i.MACs) == 2 && i.MACs[1].String() == mac.String() }
	}
	lone := func(i Identity) bool { return len(i.MACs) == 1 }
	gateway := func(want string) func(Identity) bool {
		return func(i Identity) bool { return i.Gateway.String() == want }
	}

	operatorAdds(t, "eth0", "10.77.0.11/24")
	awaitIdentity(t, h, events, eth0, func(i Identity) bool { return len(i.Addrs) == 1 })
	operatorAdds(t, "eth1", "10.78.0.11/24")
	awaitIdentity(t, h, events, eth0, hasMAC("eth1"))
	operatorRemoves(t, "eth1", "10.78.0.11/24")
	awaitIdentity(t, h, events, eth0, lone)

	route := addDefaultRoute(t, "eth0", "10.77.0.1", 0)
	awaitIdentity(t, h, events, eth0, gateway("10.77.0.1"))
	require.NoError(t, netlink.RouteDel(route))
	awaitIdentity(t, h, events, eth0, gateway("invalid IP"))
	addDefaultRoute(t, "eth0", "10.77.0.2", 0)
	awaitIdentity(t, h, events, eth0, gateway("10.77.0.2"))
	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "eth0")))
	awaitIdentity(t, h, events, eth0, gateway("invalid IP"))

	require.NoError(t, netlink.LinkSetUp(linkNamed(t, "eth0")))
	operatorAdds6(t, "eth0", "fe80::1/64")
	awaitIdentity(t, h, events, eth0, func(i Identity) bool { return i.LinkLocal.String() == "fe80::1" })
	addDefaultRoute(t, "eth0", "fe80::fe", 100)
	awaitIdentity(t, h, events, eth0, func(i Identity) bool { return i.Gateway6.String() == "fe80::fe" })
	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "eth0")))

	changed := parseMAC(t, "02:00:00:00:00:99")
	require.NoError(t, netlink.LinkSetHardwareAddr(linkNamed(t, "eth0"), changed))
	awaitIdentity(t, h, events, eth0, func(i Identity) bool { return i.MACs[0].String() == changed.String() })
}

// newWatcher returns a Watch that a test runs step by step, after eth0 and peer0 have come
// up.
// The channel of its later events never blocks it.
func newWatcher(t testing.TB, h *Host) (*watcher, chan Event) {
	t.Helper()
	events := make(chan Event, 10*maxEvents)
	w := &watcher{host: h, events: events, known: make(map[int]link)}
	require.NoError(t, w.reportLinks(t.Context()))
	for _, name := range []string{"eth0", "peer0"} {
		for index := linkNamed(t, name).Attrs().Index; !w.known[index].up(); {
			receive(t, w)
		}
	}
	drainWatcher(t, w)
	identities(events)
	return w, events
}

// drainWatcher reads all queued events, and reports them. It returns how many it read.
func drainWatcher(t testing.TB, w *watcher) (read int) {
	t.Helper()
	for ; w.queued(); read++ {
		require.NoError(t, w.reportIdentity(t.Context()))
		receive(t, w)
	}
	require.NoError(t, w.reportIdentity(t.Context()))
	return read
}

func receive(t testing.TB, w *watcher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), eventTimeout)
	defer cancel()
	require.NoError(t, w.receive(ctx, make([]byte, readBuffer)))
}

// identities returns the events of one kind that a watcher has sent, and drops the rest.
func identities(events chan Event) (found []IdentityChanged) {
	for len(events) > 0 {
		if e, ok := (<-events).(IdentityChanged); ok {
			found = append(found, e)
		}
	}
	return found
}

func TestWatchIdentityOnlyIfItMatters(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	operatorAdds(t, "eth0", "10.77.0.11/24")
	w, events := newWatcher(t, h)

	floating, err := h.Bind(eth0, prefix("10.77.0.100/24"), time.Minute)
	require.NoError(t, err)
	_, err = floating.Refresh(time.Minute)
	require.NoError(t, err)
	operatorAdds(t, "eth0", "169.254.3.3/16")
	setUp(t, "eth0") // it is up
	drainWatcher(t, w)
	require.Empty(t, identities(events))

	// The kernel drops the events of all routes but default routes.
	for i := range 100 {
		require.NoError(t, netlink.RouteAdd(&netlink.Route{
			LinkIndex: eth0, Dst: operatorAddr(t, fmt.Sprintf("10.99.%d.0/24", i)).IPNet, Gw: net.ParseIP("10.77.0.1"),
		}))
	}
	require.Zero(t, drainWatcher(t, w))
}

func TestWatchIdentityOfABurst(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	operatorAdds(t, "eth0", "10.77.0.11/24")
	w, events := newWatcher(t, h)

	for i := range 20 {
		require.NoError(t, netlink.RouteDel(addDefaultRoute(t, "eth0", "10.77.0.1", i)))
	}
	require.Equal(t, 40, drainWatcher(t, w))
	require.Equal(t, []IdentityChanged{{Index: eth0}}, identities(events))

	addDefaultRoute(t, "eth0", "10.77.0.1", 0)
	operatorAdds(t, "peer0", "10.78.0.11/24")
	drainWatcher(t, w)
	require.Equal(t, []IdentityChanged{{Index: anyLink}}, identities(events))
}

// Where events never end, the first change is reported nevertheless.
func TestWatchIdentityWhileEventsGoOn(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	w, events := newWatcher(t, h)

	operatorAdds(t, "eth0", "10.77.0.11/24")
	floating, err := h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
	require.NoError(t, err)
	for range maxEvents {
		_, err := floating.Refresh(time.Minute)
		require.NoError(t, err)
	}
	for len(identities(events)) == 0 {
		receive(t, w)
		require.NoError(t, w.reportIdentity(t.Context()))
	}
	require.True(t, w.queued())
}
