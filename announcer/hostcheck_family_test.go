package announcer

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/stretchr/testify/require"
)

// A neighborSocket is a socket on a segment where a station answers solicitations for one
// address.
type neighborSocket struct {
	mac  net.HardwareAddr // of the station
	addr netip.Addr

	in     chan Inbound
	closed chan struct{}
	once   sync.Once
}

func newNeighborSocket(mac net.HardwareAddr, addr netip.Addr) *neighborSocket {
	return &neighborSocket{mac: mac, addr: addr, in: make(chan Inbound, 1), closed: make(chan struct{})}
}

func (n *neighborSocket) Receive([]byte) (Inbound, error) {
	select {
	case in := <-n.in:
		return in, nil
	case <-n.closed:
		return Inbound{}, ErrClosed
	}
}

func (n *neighborSocket) Idle() bool { return true }

func (n *neighborSocket) Send(o Outbound) error {
	m, verdict := ndpMessage(o.Payload, ourMAC)
	if verdict != VerdictClaim || m.reply || m.target != n.addr {
		return nil
	}
	answer := ndpFrame(ourMAC, n.addr, m.sender, &ndp.NeighborAdvertisement{
		Solicited: true, Override: true, TargetAddress: n.addr,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: n.mac}},
	})
	n.in <- Inbound{From: n.mac, Payload: answer.Payload, Received: time.Now()}
	return nil
}

func (n *neighborSocket) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

// TestCheckHostWithCanaryOfAnotherFamily checks a host by ARP that serves an IPv6 address
// only. If the kernel no longer answers for the host's own IPv4 address, the floating
// address shows that it lives.
func TestCheckHostWithCanaryOfAnotherFamily(t *testing.T) {
	canary := Canary{Addr: netip.MustParseAddr("fd77::100"), Source: netip.MustParseAddr("fe80::1")}
	for name, answers := range map[string]bool{"answers": true, "silent": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				s := arrange(t, w, sock)
				sock6 := newNeighborSocket(peerMAC, canary.Addr)
				canary.Wire = New(sock6, ourMAC, IPv6, Options{})
				ended := make(chan error, 1)
				go func() { ended <- canary.Wire.Run(t.Context()) }()
				defer func() {
					require.NoError(t, sock6.Close())
					require.ErrorIs(t, <-ended, ErrClosed)
				}()
				if !answers {
					sock6.addr = netip.MustParseAddr("fd77::101")
				}
				c := checkConfig()
				c.Canary = func() Canary { return canary }
				told, stop := s.check(t, c)
				defer stop()
				intervals(10)
				s.peer.die(true)
				intervals(20)
				require.Equal(t, !answers, told.all()[len(told.all())-1].Dead)
				synctest.Wait()
			})
		})
	}
}

// TestCheckHostHearsOtherFamilies checks a host by ARP that answers only on the wire of
// another family. It lives until it is silent there, too.
func TestCheckHostHearsOtherFamilies(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		host := Host{Addr: netip.MustParseAddr("fe80::2"), MACs: []net.HardwareAddr{peerMAC}}
		sock6 := newNeighborSocket(peerMAC, host.Addr)
		w6 := New(sock6, ourMAC, IPv6, Options{})
		ctx, silent := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- w6.Run(t.Context()) }()
		go func() { ended <- w6.MeasureLoss(ctx, netip.MustParseAddr("fe80::1"), host, lossInterval) }()

		c := checkConfig()
		c.Others = func() []*Wire { return []*Wire{w6} }
		told, stop := s.check(t, c)
		defer stop()
		intervals(10)
		s.peer.die(true)
		intervals(20)
		require.False(t, told.all()[len(told.all())-1].Dead, "it answers solicitations")
		silent()
		require.NoError(t, <-ended)
		intervals(20)
		last := told.all()[len(told.all())-1]
		require.True(t, last.Dead)
		require.False(t, w6.HeardSince(peerMAC, last.Since), "nothing was heard later")
		require.NoError(t, sock6.Close())
		require.ErrorIs(t, <-ended, ErrClosed)
	})
}
