package announcer

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// addrOf returns addr as the kernel takes it.
func addrOf(addr netip.Addr, bits int) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, 32)}}
}

// newHosts makes two hosts with addresses of their own. The Wire of ours runs.
func newHosts(t testing.TB) (ours, peer host, w *Wire) {
	t.Helper()
	ours, peer = newSegment(t)
	require.NoError(t, ours.nl.AddrAdd(ours.link(t), addrOf(source, 24)))
	require.NoError(t, peer.nl.AddrAdd(peer.link(t), addrOf(peerAddr, 24)))
	w = ours.run(t)
	w.knowNoLoss(peerMAC)
	return ours, peer, w
}

// takes adds addresses to a link of their own. The kernel answers for them on every
// link.
func (h *host) takes(t testing.TB, addrs []netip.Addr) (letGo func()) {
	t.Helper()
	h.enter(t)
	require.NoError(t, h.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vips"}, PeerName: "vips-end"}))
	link, err := h.nl.LinkByName("vips")
	require.NoError(t, err)
	require.NoError(t, h.nl.LinkSetUp(link))
	for _, addr := range addrs {
		require.NoError(t, h.nl.AddrAdd(link, addrOf(addr, 32)))
	}
	return func() { require.NoError(t, h.nl.LinkDel(link)) }
}

func kernelConfig(addr netip.Addr) ProofConfig {
	return ProofConfig{Addr: addr, Source: source, Owners: []Host{peerHost}, Timeout: kernelTimeout}
}

func TestKernelProve(t *testing.T) {
	_, peer, w := newHosts(t)
	proof, err := w.Prove(t.Context(), kernelConfig(vip))
	require.NoError(t, err)
	require.Equal(t, ProvedByAnswer, proof.By)
	t.Logf("no station had the address: %s, %d rounds", proof.Took, proof.Rounds)

	letGo := peer.takes(t, []netip.Addr{vip})
	c := kernelConfig(vip)
	c.Timeout = 100 * time.Millisecond
	for name, owners := range map[string][]Host{
		"known":              {peerHost},
		"unknown":            {{}},
		"own address gone":   {{Addr: thirdAddr, MACs: peerHost.MACs}},
		"own address hidden": {{MACs: peerHost.MACs}},
		"ours":               {{Addr: source, MACs: []net.HardwareAddr{ourMAC}}},
		"another":            {thirdHost},
	} {
		c.Owners = owners
		_, err = w.Prove(t.Context(), c)
		var inUse *InUseError
		require.ErrorAs(t, err, &inUse, name)
		require.Equal(t, peerMAC, inUse.MAC)
	}

	letGo()
	addr := addrOf(vip, 32)
	require.NoError(t, peer.nl.AddrAdd(peer.link(t), addr))
	took := proveLetGo(t, w, []netip.Addr{vip}, func() { require.NoError(t, peer.nl.AddrDel(peer.link(t), addr)) })
	t.Logf("let go: proved after %s", took)
}

func TestKernelProveMany(t *testing.T) {
	_, peer, w := newHosts(t)
	all := manyVIPs(100)
	letGo := peer.takes(t, all)
	t.Logf("let go: all proved after %s", proveLetGo(t, w, all, letGo))
}

// proveLetGo proves that all addresses are free while letGo is called. It returns how
// long after the last answer for any of them the last one was proved.
func proveLetGo(t testing.TB, w *Wire, all []netip.Addr, letGo func()) time.Duration {
	t.Helper()
	var last atomic.Pointer[time.Time]
	ended := make(chan error, len(all))
	for _, addr := range all {
		l := w.listenAll(addr, func(c Claim) { last.Store(&c.Received) })
		defer l.Close()
		go func() {
			_, err := w.Prove(t.Context(), kernelConfig(addr))
			ended <- err
		}()
	}
	require.Eventually(t, func() bool { return int(w.owned.Load()) == len(all) }, kernelTimeout, time.Millisecond)
	letGo()
	for range all {
		require.NoError(t, <-ended)
	}
	took := time.Since(*last.Load())
	require.Less(t, took, kernelTimeout)
	return took
}

// A kernel may be told to answer nobody. Then only silence proves anything.
func TestKernelProveSilentHost(t *testing.T) {
	_, peer, w := newHosts(t)
	peer.enter(t)
	require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/conf/all/arp_ignore", []byte("8"), 0o600))
	proof, err := w.Prove(t.Context(), kernelConfig(vip))
	require.NoError(t, err)
	require.Equal(t, ProvedBySilence, proof.By)
	require.GreaterOrEqual(t, proof.Took, LoneSilence)
	require.Less(t, proof.Took, kernelTimeout)
}

// newBridgedHosts makes two hosts and a gateway, joined by a bridge on ours. So ours
// keeps its carrier while the link of the peer is down.
func newBridgedHosts(t *testing.T) (peer host, w *Wire) {
	t.Helper()
	ours, peer := newSegment(t)
	require.NoError(t, peer.nl.AddrAdd(peer.link(t), addrOf(peerAddr, 24)))

	ns, err := netns.New()
	require.NoError(t, err)
	t.Cleanup(func() { _ = ns.Close() })
	gateway := host{ns: ns}
	gateway.nl, err = netlink.NewHandleAt(ns)
	require.NoError(t, err)
	t.Cleanup(gateway.nl.Close)
	port := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "port1"},
		PeerName:  "wire0", PeerHardwareAddr: gatewayMAC, PeerNamespace: netlink.NsFd(ns),
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: secondMAC}}
	require.NoError(t, ours.nl.LinkAdd(port))
	require.NoError(t, ours.nl.LinkAdd(bridge))
	for _, l := range []netlink.Link{port, ours.link(t)} {
		require.NoError(t, ours.nl.LinkSetMaster(l, bridge))
	}
	require.NoError(t, ours.nl.LinkSetUp(bridge))
	require.NoError(t, ours.nl.LinkSetUp(port))
	require.NoError(t, gateway.nl.LinkSetUp(gateway.link(t)))
	require.NoError(t, gateway.nl.AddrAdd(gateway.link(t), addrOf(gatewayAddr, 24)))
	require.NoError(t, ours.nl.AddrAdd(bridge, addrOf(source, 24)))

	ours.enter(t)
	ours.ifi, err = net.InterfaceByName("br0")
	require.NoError(t, err)
	return peer, ours.run(t)
}

// A host whose link is down is found to be dead, and then proved to have let the
// address go. Both need the gateway as a witness.
func TestKernelCheckHost(t *testing.T) {
	peer, w := newBridgedHosts(t)
	ctx, cancel := context.WithCancel(t.Context())
	states, ended := make(chan HostState, 100), make(chan error, 1)
	go func() { ended <- w.CheckHost(ctx, checkConfig(), func(s HostState) { states <- s }) }()
	next := func(dead bool) HostState {
		t.Helper()
		select {
		case s := <-states:
			require.Equal(t, dead, s.Dead)
			return s
		case <-time.After(kernelTimeout):
			require.FailNow(t, "the state does not change")
			panic("unreachable")
		}
	}
	require.Equal(t, checkMisses, next(false).Heard)
	require.NoError(t, peer.nl.LinkSetDown(peer.link(t)))
	t.Logf("dead %s after it was heard", time.Since(next(true).Since))

	c := kernelConfig(vip)
	c.Witnesses = checkConfig().Witnesses()
	proof, err := w.Prove(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, ProvedByWitness, proof.By)
	t.Logf("proved after %s", proof.Took)

	down := time.Now()
	require.False(t, w.HeardSince(peerMAC, down))
	require.NoError(t, peer.nl.LinkSetUp(peer.link(t)))
	require.True(t, next(false).Since.After(down))
	require.True(t, w.HeardSince(peerMAC, down))
	require.True(t, w.LastHeard().After(down))
	cancel()
	require.NoError(t, <-ended)
}

// Without a carrier of our own nobody is dead.
func TestKernelCheckHostWithoutCarrier(t *testing.T) {
	ours, peer, w := newHosts(t)
	ctx, cancel := context.WithCancel(t.Context())
	states, ended := make(chan HostState, 100), make(chan error, 1)
	c := checkConfig()
	c.Interval = 5 * time.Millisecond
	go func() { ended <- w.CheckHost(ctx, c, func(s HostState) { states <- s }) }()
	require.False(t, (<-states).Dead)
	require.NoError(t, peer.nl.LinkSetDown(peer.link(t)))
	requireUp(t, &ours, false)
	_, err := w.Prove(t.Context(), kernelConfig(vip)) // takes a second
	require.ErrorIs(t, err, ErrNotSent)
	require.Empty(t, states)
	cancel()
	require.NoError(t, <-ended)
}

// From the moment when a kernel lets a hundred addresses go to the last proof.
func BenchmarkProve100(b *testing.B) {
	_, peer, w := newHosts(b)
	all := manyVIPs(100)
	var took time.Duration
	for b.Loop() {
		b.StopTimer()
		letGo := peer.takes(b, all)
		b.StartTimer()
		took += proveLetGo(b, w, all, letGo)
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/let-go→proof")
}
