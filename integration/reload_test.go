package integration

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestReload adds an address, removes one and changes one, and leaves one alone.
func TestReload(t *testing.T) {
	kept, dropped, tuned, added := addr(10, 77, 7, 1), addr(10, 77, 7, 2), addr(10, 77, 7, 3), addr(10, 77, 7, 4)
	s := newSceneOf(t, sharedWorld(t), 10*time.Millisecond, kept, dropped, tuned, added)
	h1, h2 := s.Servers[0], s.Servers[1]
	quiet := block(kept, `dead_man = "3s"`, `announce { interval = "1h" }`)
	before := s.head(config{}) + quiet + block(dropped) + block(tuned)
	p := s.startFrom(h1, s.configure(h1, before))
	s.eventually(soon, func() error { return s.allOn(h1, kept, dropped, tuned) })
	s.startFrom(h2, s.configure(h2, before))
	s.eventually(soon, func() error { return s.memberWith(h2, tuned, 100) })
	events := s.monitor(h1)
	s.elapse(5 * time.Second) // until the announcements after binding are over
	kept1, tuned1, claims := s.index(kept), s.index(tuned), s.claims(kept)

	s.configure(h1, s.head(config{})+quiet+block(tuned, "priority = 50", `dead_man = "8s"`)+block(added))
	require.NoError(t, p.Signal(syscall.SIGHUP))
	s.eventually(soon, func() error {
		return errors.Join(s.allOn(h1, kept, tuned, added), s.allOn(h2, dropped))
	})
	s.eventually(soon, func() error { return s.memberWith(h1, tuned, 50) })
	s.eventually(soon, func() error {
		if !reported(events, tuned, "valid_lft 8sec") {
			return errors.New("the kernel has not been given the new lifetime")
		}
		return nil
	})
	reloaded := logged(p, "configuration reloaded")
	require.Len(t, reloaded, 1)
	require.EqualValues(t, 1, reloaded[0]["unchanged"])
	require.Equal(t, []any{added.String()}, reloaded[0]["added"])
	require.Equal(t, []any{dropped.String()}, reloaded[0]["removed"])
	require.Equal(t, []any{tuned.String()}, reloaded[0]["changed"])

	s.elapse(within)
	s.eventually(within, func() error { return deleted(events, dropped, true) })
	for _, vip := range []netip.Addr{kept, tuned} {
		require.NoError(t, deleted(events, vip, false))
		require.Equal(t, []string{h1.Name}, lab.HostsOf(s.witness.Owned(vip)))
	}
	require.Equal(t, kept1, s.index(kept), "the lock was written to")
	require.Equal(t, tuned1, s.index(tuned), "the lock was written to")
	require.Equal(t, claims, s.claims(kept), "the address was announced")
	require.Equal(t, []string{h1.Name, h2.Name}, lab.HostsOf(s.witness.Owned(dropped)))
	require.True(t, p.Running())
}

// TestReloadOfWhatIsWrong changes nothing.
func TestReloadOfWhatIsWrong(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	p := s.startOn(config{}, s.Servers[0])[0]
	index := s.index(s.vip)
	for i, wrong := range []struct{ hcl, complaint string }{
		{block(s.vip, "priorty = 7"), `:10:1: Error: Unsupported argument`},
		{block(s.vip, "priority = 7") + block(addr(10, 77, 7, 9), `interface = "eth9"`), `no such interface: "eth9"`},
	} {
		s.configure(p.Host, s.head(config{})+wrong.hcl)
		require.NoError(t, p.Signal(syscall.SIGHUP))
		refused := func() []lab.Entry { return logged(p, "the configuration is not reloaded, nothing has changed") }
		s.eventually(soon, func() error {
			if n := len(refused()); n <= i {
				return fmt.Errorf("%d are refused so far", n)
			}
			return nil
		})
		require.Equal(t, "error", refused()[i].Get("@level"))
		require.Contains(t, refused()[i].Get("error"), wrong.complaint)
	}
	s.elapse(within)
	require.NoError(t, s.ownedBy(p.Host))
	require.NoError(t, s.memberWith(p.Host, s.vip, 100))
	require.Equal(t, index, s.index(s.vip))
	require.Empty(t, logged(p, "configuration reloaded"))
	s.seen(p.Host)
}

// TestReloadMovesToAnotherInterface, and back; then the first goes, which would
// be the end of an instance that still used it.
func TestReloadMovesToAnotherInterface(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	p := s.startOn(config{}, s.Servers[0])[0]
	h1 := p.Host
	require.NoError(t, h1.AddInterface("eth1", net.HardwareAddr{2, 0, 0, 0, 1, 1}))
	for _, name := range []string{"eth1", "eth0"} {
		s.configure(h1, s.hcl(config{vip: fmt.Sprintf("interface = %q", name)}))
		require.NoError(t, p.Signal(syscall.SIGHUP))
		s.eventually(soon, func() error {
			_, r, err := s.record(s.vip)
			if err == nil && (r.State != "held" || r.Interface != name) {
				err = fmt.Errorf("it is %s on %q", r.State, r.Interface)
			}
			return errors.Join(err, s.boundTo(h1, name))
		})
	}
	require.NoError(t, h1.RemoveInterface("eth1"))
	s.elapse(within)
	require.NoError(t, s.ownedBy(h1))
}

// TestStopDuringReload stops an instance whose Consul agent doesn't answer while it
// tries to hand over what a reload has removed.
func TestStopDuringReload(t *testing.T) {
	removed, kept := addr(10, 77, 7, 11), addr(10, 77, 7, 12)
	s := newSceneOf(t, sharedWorld(t), 10*time.Millisecond, removed, kept)
	h2, h3 := s.Servers[1], s.Servers[2]
	p := s.start(h2, config{})
	s.eventually(soon, func() error { return s.allOn(h2, removed, kept) })
	s.start(h3, config{})
	s.eventually(soon, func() error { return s.memberWith(h3, kept, 100) })
	require.NoError(t, s.cluster.Of(h2).Freeze())
	t.Cleanup(func() {
		require.NoError(t, s.cluster.Of(h2).Thaw())
		s.ready()
	})

	s.configure(h2, s.head(config{})+block(kept))
	require.NoError(t, p.Signal(syscall.SIGHUP))
	s.eventually(soon, func() error {
		if len(logged(p, "configuration reloaded")) == 0 {
			return errors.New("it has not reloaded")
		}
		return nil
	})
	require.NoError(t, p.Signal(syscall.SIGTERM))
	s.exits(p, 0, 4*time.Second+within)
	s.eventually(2*soon, func() error { return s.allOn(h3, removed, kept) })
}

// TestPrioritySignals raises and lowers the priority of one instance, and with it
// moves the address.
func TestPrioritySignals(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	preempt := config{vip: "preempt = true\npreempt_delay = \"1s\""}
	h1 := s.startOn(preempt, s.Servers[0])[0].Host
	p := s.start(s.Servers[1], preempt)
	h2 := p.Host
	s.eventually(soon, func() error { return s.memberWith(h2, s.vip, 100) })
	nudge := func(signal os.Signal, priority int) {
		require.NoError(t, p.Signal(signal))
		s.eventually(soon, func() error { return s.memberWith(h2, s.vip, priority) })
	}
	nudge(syscall.SIGUSR1, 99)
	s.eventually(soon, func() error { return s.ownedBy(h2) })
	nudge(syscall.SIGUSR2, 100)
	nudge(syscall.SIGUSR2, 101)
	s.eventually(soon, func() error { return s.ownedBy(h1) })

	// What was added stays added when the configuration changes.
	s.configure(h2, s.hcl(config{vip: preempt.vip + "\npriority = 90"}))
	nudge(syscall.SIGHUP, 91)
	s.eventually(soon, func() error { return s.ownedBy(h2) })
	s.seen(h1, h2, h1, h2)
}

// TestSignalsWhileStarting holds an instance up while it reads its configuration,
// from a pipe.
func TestSignalsWhileStarting(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	h1 := s.Servers[0]
	pipe := filepath.Join(h1.Dir, s.name+".pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	p := s.startFrom(h1, pipe)
	toReader := func(do func(*os.File)) {
		var f *os.File
		s.eventually(soon, func() (err error) {
			f, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // refused as long as nobody reads
			return err
		})
		do(f)
		require.NoError(t, f.Close())
	}
	toReader(func(f *os.File) {
		for _, signal := range []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
			require.NoError(t, p.Signal(signal))
		}
		_, err := f.WriteString(s.hcl(config{}))
		require.NoError(t, err)
	})
	s.eventually(soon, func() error { // it has read the first to its end
		if len(logged(p, "consul-vip starts")) == 0 {
			return errors.New("it has not started")
		}
		return nil
	})
	toReader(func(f *os.File) {
		_, err := f.WriteString(s.hcl(config{vip: "priority = 7"}))
		require.NoError(t, err)
	})
	s.eventually(soon, func() error {
		if len(logged(p, "configuration reloaded")) == 0 {
			return errors.New("it has not reloaded what it was told to before it had started")
		}
		return s.ownedBy(h1)
	})
	s.eventually(soon, func() error { return s.memberWith(h1, s.vip, 7) })
}

func addr(a, b, c, d byte) netip.Addr { return netip.AddrFrom4([4]byte{a, b, c, d}) }

// allOn objects unless this host, and no other, has these addresses bound.
func (s *scene) allOn(h *lab.Host, vips ...netip.Addr) error {
	bound := s.bound(s.t.Context())
	for _, vip := range vips {
		if len(bound[vip]) != 1 || bound[vip][0] != h {
			return fmt.Errorf("%s is not on %s alone", vip, h.Name)
		}
	}
	return nil
}

// boundTo objects unless the host has the address on this interface.
func (s *scene) boundTo(h *lab.Host, name string) error {
	addrs, err := h.Addresses(s.t.Context())
	for _, a := range addrs {
		if a.Prefix.Addr() == s.vip && a.Interface == name {
			return nil
		}
	}
	return errors.Join(err, fmt.Errorf("%s is not on %s of %s", s.vip, name, h.Name))
}

// memberWith objects unless a host's instance is a member with this priority for
// the address.
func (s *scene) memberWith(h *lab.Host, vip netip.Addr, priority int) error {
	vips, err := s.contended(h)
	if got, ok := vips[vip]; err == nil && (!ok || got != priority) {
		return fmt.Errorf("%s has the priorities %v", h.Name, vips)
	}
	return err
}

// claims counts how often an address was announced.
func (s *scene) claims(vip netip.Addr) (n int) {
	for _, r := range s.witness.Announced(vip) {
		n += r.Answers
	}
	return n
}

// monitor takes down what happens to the addresses of a host, from now on.
func (s *scene) monitor(h *lab.Host) *lab.Process {
	s.t.Helper()
	p, err := h.Start(lab.Command{Args: []string{"ip", "-oneline", "monitor", "address"}})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, p.Kill()) })
	s.eventually(soon, func() error {
		if !reported(p, s.vip, "valid_lft 3sec") { // it is refreshed every second
			return errors.New("no event so far")
		}
		return nil
	})
	return p
}

// deleted objects if an address was removed, or if it was not, since monitor.
func deleted(events *lab.Process, vip netip.Addr, want bool) error {
	if found := reported(events, vip, "Deleted"); found != want {
		return fmt.Errorf("%s was removed: %t", vip, found)
	}
	return nil
}

// reported says if there was an event of an address with these words.
func reported(events *lab.Process, vip netip.Addr, words string) bool {
	for line := range strings.Lines(events.String()) {
		if strings.Contains(line, vip.String()+"/") && strings.Contains(line, words) {
			return true
		}
	}
	return false
}
