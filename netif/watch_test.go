package netif

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// eventTimeout is how long a test waits for an event. It is long, because only a test
// that fails uses it up.
const eventTimeout = 20 * time.Second

// watch runs Watch until the test ends.
func watch(t testing.TB, h *Host) <-chan Event {
	t.Helper()
	events := make(chan Event)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { assert.NoError(t, h.Watch(ctx, events)) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return events
}

// await reads events until one matches, and returns it. It drops the others.
func await[E Event](t testing.TB, events <-chan Event, match func(E) bool) E {
	t.Helper()
	deadline := time.After(eventTimeout)
	for {
		select {
		case e := <-events:
			if e, ok := e.(E); ok && match(e) {
				return e
			}
		case <-deadline:
			require.FailNow(t, "no such event", "%T", *new(E))
		}
	}
}

// awaitLink awaits a matching report of one link.
func awaitLink(t testing.TB, events <-chan Event, name string, match func(LinkChanged) bool) LinkChanged {
	t.Helper()
	return await(t, events, func(e LinkChanged) bool { return e.Name == name && match(e) })
}

// awaitUp awaits that all of these links are up, in whatever order they come up.
func awaitUp(t testing.TB, events <-chan Event, names ...string) {
	t.Helper()
	up := make(map[string]bool)
	await(t, events, func(e LinkChanged) bool {
		up[e.Name] = e.Up
		return !slices.ContainsFunc(names, func(name string) bool { return !up[name] })
	})
}

func isUp(e LinkChanged) bool   { return e.Up }
func isDown(e LinkChanged) bool { return !e.Up && !e.Removed }

func TestWatchLinks(t *testing.T) {
	newNetns(t)
	h := newHost(t)
	eth0 := newVeth(t, "eth0", "peer0")
	events := watch(t, h)

	first := awaitLink(t, events, "eth0", isUp)
	require.Equal(t, eth0, first.Index)
	require.Equal(t, linkNamed(t, "eth0").Attrs().HardwareAddr, first.HardwareAddr)

	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "eth0")))
	awaitLink(t, events, "eth0", isDown)
	setUp(t, "eth0")
	awaitLink(t, events, "eth0", isUp)

	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "peer0")))
	awaitLink(t, events, "eth0", isDown) // its carrier is lost
	setUp(t, "peer0")
	awaitLink(t, events, "eth0", isUp)

	changed := parseMAC(t, "02:00:00:00:00:99")
	require.NoError(t, netlink.LinkSetHardwareAddr(linkNamed(t, "eth0"), changed))
	awaitLink(t, events, "eth0", func(e LinkChanged) bool { return e.Up && e.HardwareAddr.String() == changed.String() })

	require.NoError(t, netlink.LinkDel(linkNamed(t, "eth0")))
	got := awaitLink(t, events, "eth0", func(e LinkChanged) bool { return e.Removed })
	require.Equal(t, LinkChanged{Index: eth0, Name: "eth0", HardwareAddr: changed, Removed: true}, got)
}

// When a port leaves a bridge, the bridge sends an RTM_DELLINK of the family AF_BRIDGE.
// The link still exists.
func TestWatchLeavingABridgeRemovesNoLink(t *testing.T) {
	newNetns(t)
	newVeth(t, "eth0", "peer0")
	require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	h := newHost(t)
	events := watch(t, h)
	awaitLink(t, events, "eth0", isUp)

	require.NoError(t, netlink.LinkSetMaster(linkNamed(t, "eth0"), linkNamed(t, "br0")))
	require.NoError(t, netlink.LinkSetNoMaster(linkNamed(t, "eth0")))
	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "eth0")))
	got := awaitLink(t, events, "eth0", func(e LinkChanged) bool { return !e.Up })
	require.False(t, got.Removed)
}

func TestWatchAddresses(t *testing.T) {
	for _, cidr := range []string{"10.77.0.100/32", "fd00::100/128"} {
		t.Run(cidr, func(t *testing.T) {
			newNetns(t)
			eth0 := newVeth(t, "eth0", "peer0")
			h := newHost(t)
			p := prefix(cidr)
			removed := func(e AddressRemoved) bool { return e == AddressRemoved{Index: eth0, Addr: p.Addr()} }
			foreign := func(e AddressForeign) bool { return e == AddressForeign{Index: eth0, Addr: p.Addr()} }

			// Watch also reports events between Open and Watch.
			a, err := h.Bind(eth0, p, time.Minute)
			require.NoError(t, err)
			operatorRemoves(t, "eth0", cidr)
			events := watch(t, h)
			await(t, events, removed)

			restored, err := a.Refresh(time.Minute)
			require.NoError(t, err)
			require.True(t, restored)
			operatorRemoves(t, "eth0", cidr)
			await(t, events, removed)

			// Another program replaces our address with its own.
			_, err = a.Refresh(time.Minute)
			require.NoError(t, err)
			require.NoError(t, netlink.AddrReplace(linkNamed(t, "eth0"), operatorAddr(t, cidr)))
			await(t, events, foreign)

			require.NoError(t, netlink.LinkDel(linkNamed(t, "eth0")))
			await(t, events, removed)
		})
	}
}

func TestWatchIsPrompt(t *testing.T) {
	newNetns(t)
	newVeth(t, "eth0", "peer0")
	h := newHost(t)
	events := watch(t, h)
	awaitLink(t, events, "eth0", isUp)

	fastest := time.Hour
	for i := range 20 {
		cidr := fmt.Sprintf("10.77.0.%d/32", 100+i)
		operatorAdds(t, "eth0", cidr)
		start := time.Now()
		operatorRemoves(t, "eth0", cidr)
		await(t, events, func(e AddressRemoved) bool { return e.Addr == prefix(cidr).Addr() })
		fastest = min(fastest, time.Since(start))
	}
	t.Logf("a removal was reported within %v of its request", fastest)
	require.Less(t, fastest, 10*time.Millisecond)
}

// Any process may send to the socket, but only the kernel's messages are events.
func TestWatchIgnoresOtherSenders(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)
	events := watch(t, h)
	awaitLink(t, events, "eth0", isUp)

	to, err := h.events.Getsockname()
	require.NoError(t, err)
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Close(s)) }()
	forged := delAddr(eth0, prefix("10.77.0.100/32")).Serialize()
	require.NoError(t, unix.Sendto(s, forged, 0, to))

	operatorAdds(t, "eth0", "10.77.0.101/32")
	operatorRemoves(t, "eth0", "10.77.0.101/32")
	got := await(t, events, func(AddressRemoved) bool { return true })
	require.Equal(t, prefix("10.77.0.101/32").Addr(), got.Addr)
}

func TestWatchEnds(t *testing.T) {
	newNetns(t)
	h, err := Open(AgentTag, hclog.NewNullLogger())
	require.NoError(t, err)

	t.Run("while it waits for the receiver", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, h.Watch(ctx, nil))
	})
	t.Run("while it waits for the kernel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		events, done := make(chan Event), make(chan error, 1)
		go func() { done <- h.Watch(ctx, events) }()
		await(t, events, func(IdentityChanged) bool { return true }) // after the links
		cancel()
		require.NoError(t, <-done)
	})
	t.Run("when the host is closed", func(t *testing.T) {
		events, done := make(chan Event), make(chan error, 1)
		go func() { done <- h.Watch(t.Context(), events) }()
		await(t, events, func(IdentityChanged) bool { return true }) // after the links
		require.NoError(t, h.Close())
		require.Error(t, <-done)
	})
}
