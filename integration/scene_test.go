package integration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// soon is what may take a moment even on a busy machine, but no timeout.
	soon = 15 * time.Second
	// within is what the lab may need to notice what has happened in time.
	within = 2 * time.Second

	sessionTTL = 10 * time.Second // Consul's minimum
	fence      = sessionTTL - time.Second
	deadMan    = 3 * time.Second
)

// scene is one test's part of a lab: addresses, a KV prefix and consul-vip
// processes of its own, a client of the first address and an observer of all.
//
// Whatever a test is about, at its end no question on the wire may have been
// answered by two hosts, and no host may have kept an address.
type scene struct {
	*world
	t       *testing.T
	name    string // the KV prefix, and the service's name
	vip     netip.Addr
	vips    []netip.Addr
	ping    *lab.Client   // of the first address
	witness *lab.Observer // of all
	procs   []*lab.Process
	asked   *lab.Server // whose Consul the test itself asks
}

// scenes counts the scenes, so that each has its own names and addresses.
var scenes atomic.Int32

// newScene prepares a scene with one address; nothing runs yet.
func newScene(t *testing.T, w *world) *scene {
	t.Helper()
	vip := netip.AddrFrom4([4]byte{10, 77, 1, byte(1 + scenes.Load())})
	return newSceneOf(t, w, 10*time.Millisecond, vip)
}

// newSceneOf prepares a scene with these addresses, each of which the observer
// asks for at this interval.
func newSceneOf(t *testing.T, w *world, every time.Duration, vips ...netip.Addr) *scene {
	t.Helper()
	name := fmt.Sprintf("scene-%d", scenes.Add(1))
	s := &scene{world: w, t: t, name: name, vip: vips[0], vips: vips, asked: w.cluster.Servers[0]}
	var err error
	s.witness, err = w.Observer.NewObserver(every, vips...)
	require.NoError(t, err)
	t.Cleanup(s.end)
	s.measure()
	t.Cleanup(func() { t.Log("client:", s.ping.Stop()) })
	return s
}

// measure starts the client, or starts it anew: requests that had to wait for the
// first owner in the neighbour cache's queue, some lost and some not, say nothing.
func (s *scene) measure() {
	s.t.Helper()
	if s.ping != nil {
		s.ping.Stop()
	}
	var err error
	s.ping, err = s.Client.NewClient(s.vip)
	require.NoError(s.t, err)
}

// end stops what the test has left running and checks what holds for every test.
func (s *scene) end() {
	for _, p := range s.procs {
		if p.Running() {
			_ = p.Signal(syscall.SIGCONT)
			_ = p.Signal(syscall.SIGTERM) // it may have ended just now
		}
	}
	for _, p := range s.procs {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		if _, err := p.Wait(ctx); err != nil {
			s.t.Error(err)
			_ = p.Kill()
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := lab.Await(ctx, func() error { return s.unbound(ctx) }); err != nil {
		s.t.Error(err)
	}
	s.witness.Stop()
	if doubles := s.witness.Doubles(); len(doubles) > 0 {
		s.t.Errorf("%d questions had two answers, the first: %v", len(doubles), doubles[0])
	}
	if s.t.Failed() {
		for _, p := range s.procs {
			s.t.Logf("log of %s (process %d):\n%s", p.Host.Name, p.PID(), p)
		}
	}
}

// unbound objects to any host that has one of the addresses.
func (s *scene) unbound(ctx context.Context) error {
	for addr, hosts := range s.bound(ctx) {
		return fmt.Errorf("%s is still bound on %v", addr, hosts)
	}
	return nil
}

// bound returns which hosts have which of the addresses, by "ip address".
func (s *scene) bound(ctx context.Context) map[netip.Addr][]*lab.Host {
	ours := make(map[netip.Addr]bool)
	for _, vip := range s.vips {
		ours[vip] = true
	}
	bound := make(map[netip.Addr][]*lab.Host)
	for _, h := range s.Servers {
		addrs, err := h.Addresses(ctx)
		if err != nil {
			s.t.Error(err)
		}
		for _, a := range addrs {
			if ours[a.Prefix.Addr()] {
				bound[a.Prefix.Addr()] = append(bound[a.Prefix.Addr()], h)
			}
		}
	}
	return bound
}

// config is what a test changes in the configuration.
type config struct {
	sessionTTL time.Duration // 0: sessionTTL
	consul     string        // more lines for the consul block
	env        []string      // of the process
	vip        string        // more lines for every vip block
}

// start starts consul-vip on a host.
func (s *scene) start(h *lab.Host, c config) *lab.Process {
	s.t.Helper()
	return s.startFrom(h, s.configure(h, s.hcl(c)), c.env...)
}

// startFrom starts consul-vip on a host from a configuration file.
func (s *scene) startFrom(h *lab.Host, file string, env ...string) *lab.Process {
	s.t.Helper()
	p, err := h.Start(lab.Command{Args: []string{s.binary, "agent", "-config=" + file}, Env: env})
	require.NoError(s.t, err)
	s.procs = append(s.procs, p)
	return p
}

// configure writes the configuration file of a host and returns its name.
func (s *scene) configure(h *lab.Host, hcl string) string {
	s.t.Helper()
	file := filepath.Join(h.Dir, s.name+".hcl")
	require.NoError(s.t, os.WriteFile(file, []byte(hcl), 0o644))
	return file
}

// hcl is a configuration in which all addresses are alike.
func (s *scene) hcl(c config) string {
	text := s.head(c)
	for _, vip := range s.vips {
		text += block(vip, fmt.Sprintf("dead_man = %q", deadMan), c.vip)
	}
	return text
}

// head is a configuration without addresses.
func (s *scene) head(c config) string {
	return fmt.Sprintf("log_level = \"debug\"\nlog_json = true\n"+
		"consul {\n  prefix = %q\n  service = %q\n  session_ttl = %q\n%s\n}\n", s.name, s.name, cmp.Or(c.sessionTTL, sessionTTL), c.consul)
}

// block is the part of a configuration that is about one address.
func block(vip netip.Addr, lines ...string) string {
	return fmt.Sprintf("vip %q {\n%s\n}\n", vip, strings.Join(lines, "\n"))
}

// startAll starts consul-vip on all three hosts and waits until one owns the
// address and the others stand by. It returns the processes, the owner's first.
func (s *scene) startAll(c config) []*lab.Process {
	s.t.Helper()
	return s.startOn(c, s.Servers...)
}

// startOn is startAll for some hosts. The first of them becomes the owner.
func (s *scene) startOn(c config, hosts ...*lab.Host) []*lab.Process {
	s.t.Helper()
	var procs []*lab.Process
	for i, h := range hosts {
		p := s.start(h, c)
		procs = append(procs, p)
		want := "standby"
		if i == 0 {
			want = "active"
		}
		s.eventually(soon, func() error { return inState(p, want) })
		s.eventually(soon, func() error { return s.enrolled(h) })
	}
	s.eventually(soon, func() error { return s.ownedBy(procs[0].Host) })
	s.measure()
	s.eventually(soon, func() error { return s.ownedBy(procs[0].Host) })
	return procs
}

// eventually fails the test if cond still objects after a time. It may be used in
// a cleanup.
func (s *scene) eventually(d time.Duration, cond func() error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	require.NoError(s.t, lab.Await(ctx, cond))
}

// elapse lets time pass, for tests of what must not happen while it does.
func (s *scene) elapse(d time.Duration) {
	s.t.Helper()
	select {
	case <-time.After(d):
	case <-s.t.Context().Done():
	}
}

// exits requires that the process exits with this code within a time.
func (s *scene) exits(p *lab.Process, code int, d time.Duration) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), d)
	defer cancel()
	got, err := p.Wait(ctx)
	require.NoError(s.t, err)
	require.Equal(s.t, code, got, "exit code")
}

// unboundOn requires that a host does not have the address.
func (s *scene) unboundOn(h *lab.Host) {
	s.t.Helper()
	owns, err := h.Owns(s.t.Context(), s.vip)
	require.NoError(s.t, err)
	require.False(s.t, owns, "%s has the address", h.Name)
}

// run runs a command of consul-vip's about the scene on a host, and returns its
// exit code, what it printed, and what it objected to.
func (s *scene) run(h *lab.Host, args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	out, err := h.Run(s.t.Context(), lab.Command{Args: append([]string{s.binary}, append(args, "-prefix="+s.name)...)})
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(out), err.Error()
	}
	require.NoError(s.t, err)
	return 0, string(out), ""
}
