package agent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
	"github.com/consul-vip/consul-vip/netif"
)

// fakeHost is a machine with an agent on it. It has the interfaces eth0 and eth1;
// addresses belong on eth0 unless the configuration names eth1. Its keeper never
// acquires a lock. It records what the agent does.
type fakeHost struct {
	recorder
	kernel // nil: no address is bound without a lock

	agent  *agent
	log    bytes.Buffer // JSON
	logger hclog.Logger

	reload   chan *config.Config
	priority chan int
	events   chan netif.Event
	stop     context.CancelCauseFunc
	result   chan error

	home       string                    // the interface whose subnet has all addresses
	foreign    []netip.Addr              // bound by another program
	cleared    []netip.Addr              // the addresses that Clear was called with
	mayRelease chan struct{}             // if not nil, Hold does not return before it is closed
	ends       map[string]lease.End      // by address: what Hold returns at once
	stopEnd    lease.End                 // what Hold returns when its context ends
	contenders map[string]*hostContender // by address: those not closed

	identity  map[int]netif.Identity // by interface index
	described leasestate.Owner
	keys      latest.Latest[*leasestate.State]
	inLine    map[string]int // by address: this host's place among the successors
	checks    []*hostCheckCall
	services  *fakeServices // may be nil
	hooks     fakeHooks
	contact   lease.Contact

	onPrioritize func() // runs in the loop
}

// hostCheckCall is a check of a host that runs, or has run.
type hostCheckCall struct {
	announcer.HostCheckConfig
	changed func(announcer.HostState)
	ended   bool
}

var errNoLink = errors.New("no such interface")

// runFakeHost runs an agent with cfg on a fake host, and test beside it.
func runFakeHost(t *testing.T, cfg *config.Config, prepare func(*fakeHost), test func(*fakeHost)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{
			reload:     make(chan *config.Config),
			priority:   make(chan int),
			events:     make(chan netif.Event),
			result:     make(chan error, 1),
			home:       "eth0",
			ends:       map[string]lease.End{},
			contenders: map[string]*hostContender{},
		}
		if prepare != nil {
			prepare(h)
		}
		h.logger = hclog.New(&hclog.LoggerOptions{Output: &h.log, JSONFormat: true})
		h.agent = newAgent(h, h.open, h, Owner{Job: "job"}, h.logger)
		h.agent.consulServices = h.services
		h.agent.hooks = &h.hooks
		ctx, stop := context.WithCancelCause(context.Background())
		h.stop = stop
		go func() {
			h.result <- h.agent.run(ctx, Options{Config: cfg, Reload: h.reload, Priority: h.priority})
		}()
		synctest.Wait()
		test(h)
		stop(errTest)
		synctest.Wait()
		require.NotEmpty(t, h.result, "the agent has not ended")
		require.Error(t, <-h.result)
		require.Empty(t, h.contenders, "contenders that were not closed")
	})
}

// since returns what the agent did because of do, in order.
func (h *fakeHost) since(do func()) []string {
	before := len(h.recorded())
	do()
	synctest.Wait()
	return slices.Clone(h.recorded()[before:])
}

// logged returns the values of a key in the log lines with this message.
func (h *fakeHost) logged(message, key string) []any { return logged(h.log.String(), message, key) }

// logged returns the values of a key in the lines of a log with this message.
func logged(log, message, key string) (values []any) {
	for line := range strings.Lines(log) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil && entry["@message"] == message {
			values = append(values, entry[key])
		}
	}
	return values
}

// A host.

func (h *fakeHost) Find(_ netip.Addr, name string) (*net.Interface, error) {
	index := map[string]int{"eth0": 7, "eth1": 8}[cmp.Or(name, h.home)]
	if index == 0 {
		return nil, errNoLink
	}
	return &net.Interface{Index: index, Name: fmt.Sprint("eth", index-7), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, byte(index)}}, nil
}

func (h *fakeHost) Clear(addrs []netip.Addr) ([]netip.Prefix, error) {
	for _, addr := range addrs {
		if err := h.Foreign(addr); err != nil {
			return nil, err
		}
	}
	h.cleared = append(h.cleared, addrs...)
	return nil, nil
}

func (h *fakeHost) Foreign(addr netip.Addr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Contains(h.foreign, addr) {
		return &netif.ForeignError{Addr: addr, Interface: "lo"}
	}
	return nil
}

// setForeign sets the addresses that another program has bound.
func (h *fakeHost) setForeign(addrs ...netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.foreign = addrs
}

func (h *fakeHost) Watch(ctx context.Context, events chan<- netif.Event) error {
	for {
		select {
		case e := <-h.events:
			events <- e
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *fakeHost) Router(string) bool { return false }

func (h *fakeHost) Identity(ifindex int) (netif.Identity, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.identity[ifindex], nil
}

func (h *fakeHost) open(ifi *net.Interface) segment {
	h.record("open " + ifi.Name)
	return &fakeWire{host: h, name: ifi.Name}
}

// fakeWire is the wire of one of the interfaces.
type fakeWire struct {
	segment // nil: no frames are sent or received for an unbound address
	host    *fakeHost
	name    string
}

func (w *fakeWire) Run(ctx context.Context) error {
	<-ctx.Done()
	w.host.record("close " + w.name)
	return nil
}

func (w *fakeWire) Use(netip.Addr) error { return nil }

func (w *fakeWire) SetHardwareAddr(net.HardwareAddr) {}

func (w *fakeWire) Meet(context.Context, netip.Addr, netip.Addr) error { return nil }

func (w *fakeWire) MeasureLoss(ctx context.Context, source netip.Addr, host announcer.Host, interval time.Duration) error {
	w.host.record(fmt.Sprintf("measure the loss to %s from %s every %s", host.Addr, source, interval))
	<-ctx.Done()
	w.host.record(fmt.Sprintf("end the measurement to %s", host.Addr))
	return nil
}

func (w *fakeWire) Handover(netip.Addr) handover { return fakeHandover{} }

func (w *fakeWire) CheckHost(ctx context.Context, c announcer.HostCheckConfig, changed func(announcer.HostState)) error {
	call := &hostCheckCall{HostCheckConfig: c, changed: changed}
	w.host.mu.Lock()
	w.host.checks = append(w.host.checks, call)
	w.host.mu.Unlock()
	<-ctx.Done()
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	call.ended = true
	return nil
}

// fakeHandover can only be closed.
type fakeHandover struct{ handover }

func (fakeHandover) Close() {}

// A keeper.

func (h *fakeHost) Run(ctx context.Context) error {
	<-ctx.Done()
	h.record("end session")
	return nil
}

func (h *fakeHost) Contend(l lease.Lock) contender {
	c := &hostContender{h, l}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.contenders[l.Name] = c
	return c
}

// hostContender never acquires its lock.
type hostContender struct {
	host *fakeHost
	lock lease.Lock
}

func (c *hostContender) Hold(ctx context.Context, _ func(context.Context, *lease.Held) lease.Left) lease.End {
	h := c.host
	h.mu.Lock()
	name := c.lock.Name
	h.mu.Unlock()
	h.record("contend for " + name)
	if end, ok := h.ends[name]; ok {
		return end
	}
	<-ctx.Done()
	if h.mayRelease != nil {
		<-h.mayRelease
	}
	h.record(fmt.Sprintf("release %s: %v", name, context.Cause(ctx)))
	return h.stopEnd
}

func (c *hostContender) Set(l lease.Lock) {
	call := fmt.Sprintf("update %s: %d, %s", l.Name, l.Priority, l.PreemptDelay)
	if l.Ineligible != nil {
		call += ", not eligible: " + l.Ineligible.Error()
	}
	c.host.record(call)
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	c.lock = l
}

func (c *hostContender) Close() {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	delete(c.host.contenders, c.lock.Name)
}

// ineligible returns why the host does not contend for an address.
func (h *fakeHost) ineligible(addr string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.contenders[addr].lock.Ineligible
}

func (h *fakeHost) Prioritize(delta int) int {
	h.record(fmt.Sprintf("prioritize %+d", delta))
	if h.onPrioritize != nil {
		h.onPrioritize()
	}
	return delta
}

func (h *fakeHost) Leave() { h.record("leave") }

func (h *fakeHost) Describe(owner leasestate.Owner) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.described = owner
}

func (h *fakeHost) Node() string { return "h1" }

func (h *fakeHost) State() (*leasestate.State, <-chan struct{}) { return h.keys.Get() }

func (h *fakeHost) Contact() lease.Contact {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.contact
}

func (h *fakeHost) InLine(_ *leasestate.State, name string) (int, bool) {
	position, ok := h.inLine[name]
	return position, ok
}

// configured returns a configuration of these addresses. Each may be followed by
// the lines of its block, separated by "; ".
func configured(t *testing.T, head string, vips ...string) *config.Config {
	t.Helper()
	src := head + "\n"
	for _, vip := range vips {
		addr, lines, _ := strings.Cut(vip, " ")
		src += fmt.Sprintf("vip %q {\n%s\n}\n", addr, strings.ReplaceAll(lines, "; ", "\n"))
	}
	cfg, err := config.Parse("test.hcl", []byte(src))
	require.NoError(t, err)
	return cfg
}
