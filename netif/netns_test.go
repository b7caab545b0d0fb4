package netif

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for the kernel before it fails: generous,
// as it is used up only then.
const patience = 20 * time.Second

// newNetns moves the test, and no other, into a network namespace of its own
// with loopback up.
func newNetns(t testing.TB) {
	t.Helper()
	// Never unlocked: the thread ends with the test, and nobody else gets it.
	runtime.LockOSThread()
	ns, err := netns.New()
	if errors.Is(err, unix.EPERM) {
		t.Skip("a network namespace needs root (CAP_SYS_ADMIN)")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ns.Close()) })
	up(t, "lo")
}

// newHost opens the namespace that newNetns made.
func newHost(t testing.TB) *Host {
	t.Helper()
	h, err := Open(hclog.NewNullLogger())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

// newVeth makes a pair of connected links, both up, and returns the index of
// the first.
func newVeth(t testing.TB, name, peer string) int {
	t.Helper()
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name},
		PeerName:  peer,
	}))
	up(t, name)
	up(t, peer)
	return linkNamed(t, name).Attrs().Index
}

func up(t testing.TB, name string) {
	t.Helper()
	require.NoError(t, netlink.LinkSetUp(linkNamed(t, name)))
}

func linkNamed(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	require.NoError(t, err)
	return l
}

// give binds an address as an operator would.
func give(t testing.TB, name, cidr string) {
	t.Helper()
	require.NoError(t, netlink.AddrAdd(linkNamed(t, name), operators(t, cidr)))
}

// take removes an address as an operator would.
func take(t testing.TB, name, cidr string) {
	t.Helper()
	require.NoError(t, netlink.AddrDel(linkNamed(t, name), operators(t, cidr)))
}

func operators(t testing.TB, cidr string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	require.NoError(t, err)
	return a
}

// bound lists what an interface has of the prefixes, in the kernel's order.
func bound(t testing.TB, name string, of ...netip.Prefix) []netip.Prefix {
	t.Helper()
	addrs, err := netlink.AddrList(linkNamed(t, name), unix.AF_UNSPEC)
	require.NoError(t, err)
	got := []netip.Prefix{}
	for _, a := range addrs {
		p := netip.MustParsePrefix(a.IPNet.String())
		for _, o := range of {
			if p == o {
				got = append(got, p)
			}
		}
	}
	return got
}

// kernelAddress is what the kernel says about one address.
func kernelAddress(t testing.TB, name string, p netip.Prefix) netlink.Addr {
	t.Helper()
	addrs, err := netlink.AddrList(linkNamed(t, name), unix.AF_UNSPEC)
	require.NoError(t, err)
	for _, a := range addrs {
		if a.IPNet.String() == p.String() {
			return a
		}
	}
	require.FailNow(t, "no such address", "%s on %s", p, name)
	return netlink.Addr{}
}

// watch runs Watch until the test ends.
func watch(t testing.TB, h *Host) <-chan Event {
	t.Helper()
	events := make(chan Event)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := h.Watch(ctx, events); err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return events
}

// await reads events until one fits, and returns it.
func await[E Event](t testing.TB, events <-chan Event, fits func(E) bool) E {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e := <-events:
			if e, ok := e.(E); ok && fits(e) {
				return e
			}
		case <-deadline:
			require.FailNow(t, "no such event", "%T", *new(E))
		}
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func mac(t testing.TB, s string) net.HardwareAddr {
	t.Helper()
	m, err := net.ParseMAC(s)
	require.NoError(t, err)
	return m
}
