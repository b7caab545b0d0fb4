package integration

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestCrash kills and freezes the owner. In both cases the kernel alone takes the
// address away, and the successor waits for it.
func TestCrash(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(signal.String(), func(t *testing.T) {
			s := newScene(t, sharedWorld(t))
			procs := s.startAll(config{})
			h1 := procs[0].Host

			began := time.Now()
			require.NoError(t, procs[0].Signal(signal))
			s.eventually(deadMan+within, func() error { return notOn(s, h1) })
			t.Logf("the kernel took the address away after %v of at most %v", time.Since(began), deadMan+time.Second)
			next := s.takenOver(h1)
			s.seen(h1, next)

			if signal == syscall.SIGSTOP {
				require.NoError(t, procs[0].Signal(syscall.SIGCONT))
				s.exits(procs[0], 4, soon)
				s.unboundOn(h1)
				s.seen(h1, next) // it never had the address again
			}
			s.announced(h1, next)
		})
	}
}

// TestShortFreeze freezes the owner for so short that it may go on.
func TestShortFreeze(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	p := s.startAll(config{})[0]
	require.NoError(t, p.Signal(syscall.SIGSTOP))
	s.elapse(time.Second)
	require.NoError(t, p.Signal(syscall.SIGCONT))
	s.elapse(deadMan + time.Second)
	require.NoError(t, s.ownedBy(p.Host))
	s.seen(p.Host)
	require.Zero(t, s.ping.Report().Lost)
}

// TestLeftover starts an instance where a killed one has left its address.
func TestLeftover(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	h1 := s.Servers[0]
	killed := s.startOn(config{}, h1)[0]
	require.NoError(t, killed.Kill())
	owns, err := h1.Owns(t.Context(), s.vip)
	require.NoError(t, err)
	require.True(t, owns, "nothing is left to clear")

	p := s.start(h1, config{})
	s.eventually(within, func() error { return notOn(s, h1) })
	s.eventually(2*soon, func() error { return s.ownedBy(h1) })
	require.NoError(t, inState(p, "active"))
	require.Len(t, logged(p, "removed an address that a predecessor left behind"), 1)
}

// TestForeignAddress starts an instance where somebody else has bound the
// address. It's not consul-vip's to take, nor to remove.
func TestForeignAddress(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	h1 := s.Servers[0]
	prefix := netip.PrefixFrom(s.vip, 32)
	require.NoError(t, h1.AddAddress("eth0", prefix))
	p := s.start(h1, config{})
	s.exits(p, 1, soon)
	require.Contains(t, p.String(), s.vip.String())
	require.NoError(t, h1.RemoveAddress("eth0", prefix), "the address must still be there")
	_, _, err := s.record(s.vip)
	require.Error(t, err, "it must not even have contended")
}

// TestSecondInstance starts an instance where one runs. They must not take each
// other for a dead predecessor.
func TestSecondInstance(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	p := s.startAll(config{})[0]
	second := s.start(p.Host, config{})
	s.exits(second, 1, soon)
	require.NoError(t, s.ownedBy(p.Host))
	require.Zero(t, s.ping.Report().Lost)
}

// TestAddressRemoved removes the owner's address as a network manager might.
func TestAddressRemoved(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	p := s.startAll(config{})[0]
	require.NoError(t, p.Host.RemoveAddress("eth0", netip.PrefixFrom(s.vip, 32)))
	s.eventually(within, func() error { return s.ownedBy(p.Host) })
	s.seen(p.Host)
}

// notOn objects if a host has the address.
func notOn(s *scene, h *lab.Host) error {
	owns, err := h.Owns(s.t.Context(), s.vip)
	if owns {
		return errors.New("the address is still bound")
	}
	return err
}
