package announcer

import (
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
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

func TestKernelProveLinkDown(t *testing.T) {
	ours, peer, w := newHosts(t)
	require.NoError(t, ours.nl.LinkSetDown(ours.link(t)))
	_, err := w.Prove(t.Context(), kernelConfig(vip))
	require.ErrorIs(t, err, ErrNotSent)
	require.NoError(t, ours.nl.LinkSetUp(ours.link(t)))
	requireUp(t, &ours, true)
	_, err = w.Prove(t.Context(), kernelConfig(vip))
	require.NoError(t, err)

	// Without a carrier the kernel would accept frames and drop them.
	require.NoError(t, peer.nl.LinkSetDown(peer.link(t)))
	requireUp(t, &ours, false)
	_, err = w.Prove(t.Context(), kernelConfig(vip))
	require.ErrorIs(t, err, ErrNotSent)
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
