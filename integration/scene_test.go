package integration

import (
	"cmp"
	"context"
	"encoding/json"
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

	"github.com/hashicorp/consul/api"
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

// inState objects unless every address of the process was last logged to be in
// this state.
func inState(p *lab.Process, want string) error {
	if !p.Running() {
		return fmt.Errorf("the process on %s has ended", p.Host.Name)
	}
	states := make(map[string]string)
	for _, e := range p.Entries() {
		if e.Message() == "state changed" {
			states[e.Get("vip")] = e.Get("state")
		}
	}
	for vip, state := range states {
		if state != want {
			return fmt.Errorf("%s is in state %q on %s, not %q", vip, state, p.Host.Name, want)
		}
	}
	if len(states) == 0 {
		return fmt.Errorf("no state on %s yet", p.Host.Name)
	}
	return nil
}

// ownedBy objects unless this host, and it alone, has the address: by "ip
// address", by what the client sees, and by Consul's KV.
func (s *scene) ownedBy(h *lab.Host) error {
	hosts := s.bound(s.t.Context())[s.vip]
	if len(hosts) != 1 || hosts[0] != h {
		return fmt.Errorf("%d hosts have the address bound, %s is not the only one", len(hosts), h.Name)
	}
	if by := s.ping.AnsweredBy(); by != h.Name {
		return fmt.Errorf("the client is answered by %q, not by %s", by, h.Name)
	}
	pair, record, err := s.record(s.vip)
	if err != nil {
		return err
	}
	if record.State != "held" || record.Node != h.Name || pair.Session == "" {
		return fmt.Errorf("the record is %s, with session %q", pair.Value, pair.Session)
	}
	return nil
}

// owner returns which host owns the address now, or nil.
func (s *scene) owner() *lab.Host {
	for _, h := range s.Servers {
		if s.ownedBy(h) == nil {
			return h
		}
	}
	return nil
}

// takenOver waits until a host other than old owns the address and returns it.
func (s *scene) takenOver(old *lab.Host) *lab.Host {
	s.t.Helper()
	var owner *lab.Host
	s.eventually(2*soon, func() error {
		if owner = s.owner(); owner == nil || owner == old {
			return errors.New("nobody else owns the address")
		}
		return nil
	})
	return owner
}

// record is the value of a lock.
type record struct {
	State     string    `json:"state"`
	Node      string    `json:"node"`
	Interface string    `json:"interface"`
	MAC       string    `json:"mac"`
	Since     time.Time `json:"since"`
	Session   string    `json:"session"`
	TTL       string    `json:"ttl"`
	AllocID   string    `json:"alloc_id"`
	Job       string    `json:"job"`
	Reason    string    `json:"reason"`
}

func (s *scene) key(vip netip.Addr) string { return s.name + "/" + vip.String() + "/.lock" }

// record returns the lock of an address.
func (s *scene) record(vip netip.Addr) (*api.KVPair, record, error) {
	var r record
	pair, _, err := s.asked.API.KV().Get(s.key(vip), &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		return nil, r, err
	}
	if pair == nil {
		return nil, r, errors.New("there is no lock")
	}
	return pair, r, json.Unmarshal(pair.Value, &r)
}

// contended returns the addresses that a host's instance has or contends for, as
// a member with its priority for each.
func (s *scene) contended(h *lab.Host) (map[netip.Addr]int, error) {
	pair, _, err := s.asked.API.KV().Get(s.name+"/.members/"+h.Name, &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		return nil, err
	}
	if pair == nil || pair.Session == "" {
		return nil, fmt.Errorf("%s is no member", h.Name)
	}
	var member struct{ VIPs map[netip.Addr]int }
	err = json.Unmarshal(pair.Value, &member)
	return member.VIPs, err
}

// enrolled objects unless the host's instance has or contends for the address.
func (s *scene) enrolled(h *lab.Host) error {
	vips, err := s.contended(h)
	if _, ok := vips[s.vip]; err == nil && !ok {
		return fmt.Errorf("%s does not contend for the address", h.Name)
	}
	return err
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

// seen requires that the observer and the client saw exactly these hosts own the
// address, in this order.
func (s *scene) seen(hosts ...*lab.Host) {
	s.t.Helper()
	s.inOrder(s.witness.Owned, hosts, "owners seen by the observer")
	require.Equal(s.t, names(hosts), s.ping.Report().Hosts(), "owners seen by the client")
}

// announced requires that exactly these hosts announced the address, in this order.
func (s *scene) announced(hosts ...*lab.Host) {
	s.t.Helper()
	s.inOrder(s.witness.Announced, hosts, "who announced the address")
}

// inOrder requires that what the observer took down is about exactly these hosts.
// Its next question, or the next announcement, may still be due.
func (s *scene) inOrder(taken func(netip.Addr) []lab.Reign, hosts []*lab.Host, what string) {
	s.t.Helper()
	s.eventually(within, func() error {
		if n := len(taken(s.vip)); n < len(hosts) {
			return fmt.Errorf("%s: only %d so far", what, n)
		}
		return nil
	})
	require.Equal(s.t, names(hosts), lab.HostsOf(taken(s.vip)), what)
}

func names(hosts []*lab.Host) []string {
	var list []string
	for _, h := range hosts {
		list = append(list, h.Name)
	}
	return list
}

// logged returns the log lines with this message.
func logged(p *lab.Process, message string) []lab.Entry {
	var found []lab.Entry
	for _, e := range p.Entries() {
		if e.Message() == message {
			found = append(found, e)
		}
	}
	return found
}

// status returns what "consul-vip status -json" prints on a host, whether each
// address has an owner or not.
func (s *scene) status(h *lab.Host) map[string]map[string]any {
	s.t.Helper()
	_, out, _ := s.run(h, "status", "-json")
	var rows []map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(out), &rows))
	byVIP := make(map[string]map[string]any)
	for _, row := range rows {
		byVIP[row["vip"].(string)] = row
	}
	return byVIP
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
