package integration

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestReload adds an address, removes one and changes one, and leaves one alone.
func TestReload(t *testing.T) {
	t.Parallel()
	kept, dropped, tuned, added := addr(10, 77, 7, 1), addr(10, 77, 7, 2), addr(10, 77, 7, 3), addr(10, 77, 7, 4)
	s := newSceneOf(t, everyAddress, kept, dropped, tuned, added)
	h1, h2 := s.Servers[0], s.Servers[1]
	quiet := block(kept, `dead_man = "5s"`, `announce { interval = "1h" }`)
	before := s.head(config{}) + quiet + block(dropped) + block(tuned)
	p := s.startFrom(h1, s.configure(h1, before))
	s.await(s.allOn(h1, kept, dropped, tuned))
	s.startFrom(h2, s.configure(h2, before))
	s.await(s.memberWith(h2, tuned, 100))
	events := s.monitor(h1)
	s.await(s.burstOver(kept))
	keptIndex, tunedIndex, frames := s.index(kept), s.index(tuned), s.frames(kept)

	s.configure(h1, s.head(config{})+quiet+block(tuned, "priority = 50", `dead_man = "8s"`)+block(added))
	s.signal(p, syscall.SIGHUP)
	s.await(s.allOn(h1, kept, tuned, added))
	s.await(s.allOn(h2, dropped))
	s.await(s.memberWith(h1, tuned, 50))
	s.await(condition{"the new lifetime in the kernel", func() error {
		if longest := longestLifetime(events, tuned); longest != 8*time.Second {
			return fmt.Errorf("%v", longest)
		}
		return nil
	}})
	s.await(logs(p, "configuration reloaded", 1))
	reloaded := logged(p, "configuration reloaded")[0]
	s.EqualValues(1, reloaded["unchanged"])
	s.Equal([]any{added.String()}, reloaded["added"])
	s.Equal([]any{dropped.String()}, reloaded["removed"])
	s.Equal([]any{tuned.String()}, reloaded["changed"])

	s.pass(calm)
	s.await(removed(events, dropped, true))
	for _, vip := range []netip.Addr{kept, tuned} {
		s.holds(removed(events, vip, false))
		s.Equal([]string{h1.Name}, lab.HostsOf(s.observer.Owned(vip)), "owners of %s", vip)
	}
	s.Equal(keptIndex, s.index(kept), "the lock of the kept address was written to")
	s.Equal(tunedIndex, s.index(tuned), "the lock of the changed address was written to")
	s.Equal(frames, s.frames(kept), "frames that announce the kept address")
	s.inOrder("owners of the dropped address", []*lab.Host{h1, h2}, func() []string {
		return lab.HostsOf(s.observer.Owned(dropped))
	})
	s.running(p)
}

// TestReloadRefused reloads configurations with errors. Nothing changes.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := s.startOn(config{}, s.Servers[0])[0]
	tenure, index := s.tenure(p), s.index(s.vip)
	for i, wrong := range []struct{ hcl, complaint string }{
		{block(s.vip, "priorty = 7"), `:11:1: Error: Unsupported argument`},
		{block(s.vip, "priority = 7") + block(addr(10, 77, 7, 9), `interface = "eth9"`), `no such interface: "eth9"`},
	} {
		const refused = "configuration not reloaded, nothing has changed"
		s.configure(p.Host, s.head(config{})+wrong.hcl)
		s.signal(p, syscall.SIGHUP)
		s.await(logs(p, refused, i+1))
		line := logged(p, refused)[i]
		s.Equal("error", line.Get("@level"))
		s.Contains(line.Get("error"), wrong.complaint)
	}
	s.pass(calm)
	s.await(s.memberWith(p.Host, s.vip, 100))
	s.Equal(index, s.index(s.vip), "the lock was written to")
	s.holds(logs(p, "configuration reloaded", 0))
	tenure.unbroken()
	s.seen(p.Host)
}

// TestReloadMovesToAnotherInterface moves the address to another interface and
// back. Then that interface goes, which would end an instance that still used it.
func TestReloadMovesToAnotherInterface(t *testing.T) {
	s := newScene(t)
	p := s.startOn(config{}, s.Servers[0])[0]
	h1 := p.Host
	s.NoError(h1.AddInterface("eth1", net.HardwareAddr{2, 0, 0, 0, 1, 1}))
	t.Cleanup(func() { _ = h1.RemoveInterface("eth1") }) // the test itself may have done so
	for _, name := range []string{"eth1", "eth0"} {
		s.configure(h1, s.hcl(config{vip: fmt.Sprintf("interface = %q", name)}))
		s.signal(p, syscall.SIGHUP)
		s.await(s.heldOn(h1, name))
	}
	s.NoError(h1.RemoveInterface("eth1"))
	s.pass(calm)
	s.await(s.ownedBy(h1))
	s.running(p)
}

// heldOn is met when a host has the address on this interface, and its record
// says so.
func (s *scene) heldOn(h *lab.Host, name string) condition {
	return condition{fmt.Sprintf("%s held on %s of %s", s.vip, name, h.Name), func() error {
		if _, r, err := s.lock(s.vip); err != nil || r.State != "held" || r.Interface != name {
			return errors.Join(err, fmt.Errorf("%+v", r))
		}
		addrs, err := h.Addresses(s.t.Context())
		for _, a := range addrs {
			if a.Prefix.Addr() == s.vip && a.Interface == name {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("its addresses %v", addrs))
	}}
}

// TestStopDuringReload stops an instance while it hands over an address that a reload
// has removed. Its Consul agent does not answer.
func TestStopDuringReload(t *testing.T) {
	removed, kept := addr(10, 77, 7, 11), addr(10, 77, 7, 12)
	s := newSceneOf(t, everyAddress, removed, kept)
	h2, h3 := s.Servers[1], s.Servers[2]
	p := s.start(h2, config{})
	s.await(s.allOn(h2, removed, kept))
	s.start(h3, config{})
	s.await(s.memberWith(h3, kept, 100))
	s.freezeConsul(h2)

	s.configure(h2, s.head(config{})+block(kept))
	s.signal(p, syscall.SIGHUP)
	s.await(logs(p, "configuration reloaded", 1))
	s.stop(p)
	s.awaitWithin(2*soon, s.allOn(h3, removed, kept))
}

// TestSignalsWhileStarting holds an instance up while it reads its configuration,
// from a pipe. It obeys the signals afterwards.
func TestSignalsWhileStarting(t *testing.T) {
	s := newScene(t)
	h1 := s.Servers[0]
	pipe := filepath.Join(h1.Dir, s.name+".pipe")
	s.NoError(syscall.Mkfifo(pipe, 0o600))
	p := s.startFrom(h1, pipe)
	s.toReader(pipe, func(f *os.File) {
		for _, signal := range []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
			s.signal(p, signal)
		}
		_, err := f.WriteString(s.hcl(config{}))
		s.NoError(err)
	})
	s.await(logs(p, "consul-vip started", 1)) // it has read the first to its end
	s.toReader(pipe, func(f *os.File) {
		_, err := f.WriteString(s.hcl(config{vip: "priority = 7"}))
		s.NoError(err)
	})
	s.await(logs(p, "configuration reloaded", 1))
	s.await(s.ownedBy(h1))
	s.await(s.memberWith(h1, s.vip, 7))
}

// toReader waits for a reader of a pipe and then writes to it.
func (s *scene) toReader(pipe string, write func(*os.File)) {
	s.t.Helper()
	var f *os.File
	s.await(condition{"a reader of " + pipe, func() (err error) {
		f, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // refused while there is none
		return err
	}})
	write(f)
	s.NoError(f.Close())
}
