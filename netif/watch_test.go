package netif

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// awaitLink awaits the report of one link.
func awaitLink(t *testing.T, events <-chan Event, name string, fits func(LinkChanged) bool) LinkChanged {
	t.Helper()
	return await(t, events, func(e LinkChanged) bool { return e.Name == name && fits(e) })
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
	up(t, "eth0")
	awaitLink(t, events, "eth0", isUp)

	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "peer0")))
	awaitLink(t, events, "eth0", isDown) // the carrier is lost
	up(t, "peer0")
	awaitLink(t, events, "eth0", isUp)

	is := mac(t, "02:00:00:00:00:99")
	require.NoError(t, netlink.LinkSetHardwareAddr(linkNamed(t, "eth0"), is))
	awaitLink(t, events, "eth0", func(e LinkChanged) bool { return e.Up && e.HardwareAddr.String() == is.String() })

	require.NoError(t, netlink.LinkDel(linkNamed(t, "eth0")))
	got := awaitLink(t, events, "eth0", func(e LinkChanged) bool { return e.Removed })
	require.Equal(t, LinkChanged{Index: eth0, Name: "eth0", HardwareAddr: is, Removed: true}, got)
}

// A bridge announces that a port leaves it with an RTM_DELLINK of its own
// family: the link itself lives on.
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

			// What happens between Open and Watch is not lost.
			a, err := h.Bind(eth0, p, time.Minute)
			require.NoError(t, err)
			take(t, "eth0", cidr)
			events := watch(t, h)
			await(t, events, removed)

			restored, err := a.Refresh(time.Minute)
			require.NoError(t, err)
			require.True(t, restored)
			take(t, "eth0", cidr)
			await(t, events, removed)

			// Another program makes ours its own.
			_, err = a.Refresh(time.Minute)
			require.NoError(t, err)
			require.NoError(t, netlink.AddrReplace(linkNamed(t, "eth0"), operators(t, cidr)))
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
		give(t, "eth0", cidr)
		start := time.Now()
		take(t, "eth0", cidr)
		await(t, events, func(e AddressRemoved) bool { return e.Addr == prefix(cidr).Addr() })
		fastest = min(fastest, time.Since(start))
	}
	t.Logf("a removal was reported within %v of its request", fastest)
	require.Less(t, fastest, 10*time.Millisecond)
}

func TestWatchSurvivesOverrun(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h, err := open(hclog.NewNullLogger(), 1) // the kernel makes it its minimum
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	a, err := h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
	require.NoError(t, err)

	// Nobody reads while this happens.
	for i := range 100 {
		cidr := fmt.Sprintf("10.77.1.%d/32", i)
		give(t, "eth0", cidr)
		take(t, "eth0", cidr)
	}
	require.NoError(t, netlink.AddrReplace(linkNamed(t, "eth0"), operators(t, "10.77.0.100/32")))

	events := watch(t, h)
	await(t, events, func(Resync) bool { return true })
	await(t, events, func(e AddressForeign) bool { return e.Addr == a.prefix.Addr() })

	// And it hears again.
	take(t, "eth0", "10.77.0.100/32")
	await(t, events, func(e AddressRemoved) bool { return e.Addr == a.prefix.Addr() })
}

func TestWatchFindsLinksAgainAfterOverrun(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	newVeth(t, "eth1", "peer1")
	h, err := open(hclog.NewNullLogger(), 1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	events := watch(t, h)
	awaitLink(t, events, "eth0", isUp)
	awaitLink(t, events, "peer1", isUp)

	// The watcher hangs on its channel after the first of these.
	for i := range 100 {
		cidr := fmt.Sprintf("10.77.1.%d/32", i)
		give(t, "eth1", cidr)
		take(t, "eth1", cidr)
	}
	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "eth1")))
	require.NoError(t, netlink.LinkDel(linkNamed(t, "eth0")))

	await(t, events, func(Resync) bool { return true })
	changed := map[string]LinkChanged{}
	for range 4 { // eth1 down and peer1 without carrier, eth0 and peer0 gone
		e := await(t, events, func(LinkChanged) bool { return true })
		changed[e.Name] = e
	}
	require.True(t, changed["eth0"].Removed)
	require.Equal(t, eth0, changed["eth0"].Index)
	require.True(t, changed["peer0"].Removed)
	require.False(t, changed["eth1"].Up)
	require.False(t, changed["eth1"].Removed)
	require.False(t, changed["peer1"].Up)
}

// What a process other than the kernel sends is no event.
func TestWatchHearsOnlyTheKernel(t *testing.T) {
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
	lie := delAddr(eth0, prefix("10.77.0.100/32")).Serialize()
	require.NoError(t, unix.Sendto(s, lie, 0, to))

	give(t, "eth0", "10.77.0.101/32")
	take(t, "eth0", "10.77.0.101/32")
	got := await(t, events, func(AddressRemoved) bool { return true })
	require.Equal(t, prefix("10.77.0.101/32").Addr(), got.Addr)
}

func TestWatchEnds(t *testing.T) {
	newNetns(t)
	h, err := Open(hclog.NewNullLogger())
	require.NoError(t, err)

	t.Run("while it waits for the receiver", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, h.Watch(ctx, nil))
	})
	t.Run("while it waits for the kernel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		events, done := make(chan Event), make(chan error)
		go func() { done <- h.Watch(ctx, events) }()
		awaitLink(t, events, "lo", isUp)
		cancel()
		require.NoError(t, <-done)
	})
	t.Run("when the host is closed", func(t *testing.T) {
		events, done := make(chan Event), make(chan error)
		go func() { done <- h.Watch(t.Context(), events) }()
		awaitLink(t, events, "lo", isUp)
		require.NoError(t, h.Close())
		require.Error(t, <-done)
	})
}
