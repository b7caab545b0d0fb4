package announcer

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	ourLocal  = netip.MustParseAddr("fe80::ff:fe00:1") // of ourMAC (RFC 4291, appendix A)
	peerLocal = netip.MustParseAddr("fe80::ff:fe00:99")
	peerHost6 = Host{Addr: peerLocal, MACs: []net.HardwareAddr{peerMAC}}
)

// addrOf6 returns addr as this program binds it: without duplicate address detection.
func addrOf6(addr netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}
}

// newHosts6 makes two hosts that have no addresses but their link-local ones. The Wires
// of both run.
func newHosts6(t testing.TB) (peer host, w, wp *Wire) {
	t.Helper()
	ours, peer := newSegment(t)
	for _, h := range []host{ours, peer} {
		require.Eventually(t, func() bool {
			addrs, err := h.nl.AddrList(h.link(t), netlink.FAMILY_V6)
			return err == nil && len(addrs) == 1 && addrs[0].Flags&unix.IFA_F_TENTATIVE == 0
		}, kernelTimeout, 10*time.Millisecond, "duplicate address detection ends")
	}
	w, wp = ours.runFamily(t, IPv6), peer.runFamily(t, IPv6)
	w.knowNoLoss(peerMAC)
	return peer, w, wp
}

func TestKernelNDPProve(t *testing.T) {
	peer, w, _ := newHosts6(t)
	c := ProofConfig{Addr: vip6, Source: ourLocal, Owners: []Host{peerHost6}, Timeout: kernelTimeout}
	proof, err := w.Prove(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, ProvedByAnswer, proof.By)
	t.Logf("no station had the address: %s, %d rounds", proof.Took, proof.Rounds)

	require.NoError(t, peer.nl.AddrAdd(peer.link(t), addrOf6(vip6)))
	c.Timeout = 100 * time.Millisecond
	for name, owners := range map[string][]Host{
		"known":              {peerHost6},
		"unknown":            {{}},
		"own address gone":   {{Addr: peer6, MACs: peerHost6.MACs}},
		"own address hidden": {{MACs: peerHost6.MACs}},
		"ours":               {{Addr: ourLocal, MACs: []net.HardwareAddr{ourMAC}}},
	} {
		c.Owners = owners
		_, err = w.Prove(t.Context(), c)
		var inUse *InUseError
		require.ErrorAs(t, err, &inUse, name)
		require.Equal(t, peerMAC, inUse.MAC)
	}

	c.Owners, c.Timeout = []Host{peerHost6}, kernelTimeout
	ended := make(chan error, 1)
	go func() {
		_, err := w.Prove(t.Context(), c)
		ended <- err
	}()
	require.Eventually(t, func() bool { return w.owned.Load() == 1 }, kernelTimeout, time.Millisecond)
	require.NoError(t, peer.nl.AddrDel(peer.link(t), addrOf6(vip6)))
	require.NoError(t, <-ended)
}

// A kernel believes an announcement, also over what it has known before.
func TestKernelNDPAnnounce(t *testing.T) {
	peer, w, wp := newHosts6(t)
	l := wp.Listen(vip6)
	defer l.Close()
	require.NoError(t, peer.nl.NeighAdd(&netlink.Neigh{
		LinkIndex: peer.ifi.Index, Family: unix.AF_INET6, State: unix.NUD_STALE, IP: vip6.AsSlice(), HardwareAddr: thirdMAC,
	}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Announce(ctx, Announcement{Addr: vip6, Schedule: fixed(time.Minute, 0)}, nil) }()
	claim := nextClaim(t, l)
	require.Equal(t, ourMAC, claim.MAC)
	require.Eventually(t, func() bool {
		known, err := peer.nl.NeighList(peer.ifi.Index, netlink.FAMILY_V6)
		for _, n := range known {
			if addr, _ := netip.AddrFromSlice(n.IP); addr == vip6 && n.HardwareAddr.String() == ourMAC.String() {
				return err == nil
			}
		}
		return false
	}, kernelTimeout, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

// Ready and released reach the other host, and the kernel of the one that has the address
// answers ready as it answers any probe.
func TestKernelNDPHandover(t *testing.T) {
	peer, w, wp := newHosts6(t)
	require.NoError(t, peer.nl.AddrAdd(peer.link(t), addrOf6(vip6)))
	l := w.Listen(vip6)
	defer l.Close()
	ours, theirs := w.Handover(vip6), wp.Handover(vip6)
	defer ours.Close()
	defer theirs.Close()
	require.NoError(t, w.SendReady(t.Context(), vip6, peerMAC, nonce))
	require.True(t, theirs.AwaitReady(t.Context(), nonce, kernelTimeout))
	require.Equal(t, peerMAC, nextClaim(t, l).MAC)

	require.NoError(t, peer.nl.AddrDel(peer.link(t), addrOf6(vip6)))
	for _, to := range []net.HardwareAddr{ourMAC, nil} { // nil: everybody
		require.NoError(t, wp.SendReleased(t.Context(), vip6, to, nonce))
		require.True(t, ours.AwaitReleased(t.Context(), peerMAC, nonce, kernelTimeout))
	}
}

// The host check asks for the link-local address.
func TestKernelNDPHostCheck(t *testing.T) {
	_, w, _ := newHosts6(t)
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- w.CheckHost(ctx, HostCheckConfig{
			Host: peerHost6, Source: ourLocal, Interval: 5 * time.Millisecond, Misses: 1000,
			Witnesses: func() Witnesses { return Witnesses{} },
		}, func(s HostState) {})
	}()
	go func() {
		for w.HeardSince(peerMAC, time.Now().Add(-time.Minute)) == false {
			time.Sleep(time.Millisecond)
		}
		close(heard)
	}()
	<-heard
	cancel()
	require.NoError(t, <-ended)
}
