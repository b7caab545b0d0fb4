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

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

// ground is everything that an agent stands on: a machine with the interfaces
// eth0, where every address belongs unless it says otherwise, and eth1; and the
// locks, which nobody ever gets. What the agent does to it, it writes down.
type ground struct {
	*world
	agent *agent
	log   bytes.Buffer
	level hclog.Logger

	reload   chan *config.Config
	priority chan int
	events   chan netif.Event
	stop     context.CancelCauseFunc
	result   chan error

	home    string           // the interface whose subnet has all the addresses
	foreign netip.Addr       // bound by another program
	cleared []netip.Addr     // of which leftovers were removed
	last    chan struct{}    // if not nil, no lock is given back before it is closed
	lost    map[string]error // by address: what Hold returns at once

	lateLoss error // what Hold returns when its lock is given up
}

var errNoLink = errors.New("no such interface")

// onGround runs an agent with cfg on a ground of its own, and test beside it.
func onGround(t *testing.T, cfg *config.Config, prepare func(*ground), test func(*ground)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &ground{
			world:    newWorld(nil),
			reload:   make(chan *config.Config),
			priority: make(chan int),
			events:   make(chan netif.Event),
			result:   make(chan error, 1),
			home:     "eth0",
			lost:     map[string]error{},
		}
		if prepare != nil {
			prepare(g)
		}
		g.level = hclog.New(&hclog.LoggerOptions{Output: &g.log, JSONFormat: true})
		g.agent = newAgent(g, g.open, g, lease.Owner{Job: "job"}, g.level)
		ctx, stop := context.WithCancelCause(context.Background())
		g.stop = stop
		go func() {
			g.result <- g.agent.run(ctx, Options{Config: cfg, Reload: g.reload, Priority: g.priority})
		}()
		synctest.Wait()
		test(g)
		stop(errTest)
		synctest.Wait()
		require.NotEmpty(t, g.result, "it must end by now")
		require.Error(t, <-g.result)
	})
}

// since returns what was done by do, in order where order is told.
func (g *ground) since(do func()) []string {
	before := len(g.deeds())
	do()
	synctest.Wait()
	return slices.Clone(g.deeds()[before:])
}

// logged are the values of a key in the lines of the log with this message.
func (g *ground) logged(message, key string) (values []any) {
	for line := range strings.Lines(g.log.String()) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil && entry["@message"] == message {
			values = append(values, entry[key])
		}
	}
	return values
}

// host
func (g *ground) Find(_ netip.Addr, name string) (*net.Interface, error) {
	index := map[string]int{"eth0": 7, "eth1": 8}[cmp.Or(name, g.home)]
	if index == 0 {
		return nil, errNoLink
	}
	return &net.Interface{Index: index, Name: fmt.Sprint("eth", index-7), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, byte(index)}}, nil
}

func (g *ground) Clear(addrs []netip.Addr) ([]netip.Prefix, error) {
	if slices.Contains(addrs, g.foreign) {
		return nil, netif.ErrForeign
	}
	g.cleared = append(g.cleared, addrs...)
	return nil, nil
}

func (g *ground) Watch(ctx context.Context, events chan<- netif.Event) error {
	for {
		select {
		case e := <-g.events:
			events <- e
		case <-ctx.Done():
			return nil
		}
	}
}

// segment
func (g *ground) open(ifi *net.Interface) (segment, error) {
	g.do("open " + ifi.Name)
	return &plug{g, ifi.Name}, nil
}

// plug is where the machine is plugged into a segment.
type plug struct {
	*ground
	name string
}

func (p *plug) Run(ctx context.Context) error {
	<-ctx.Done()
	p.do("close " + p.name)
	return nil
}

func (p *plug) SetHardwareAddr(net.HardwareAddr) {}

// keeper
func (g *ground) Run(ctx context.Context) error {
	<-ctx.Done()
	g.do("end session")
	return nil
}

func (g *ground) Hold(ctx context.Context, l lease.Lock, _ func(context.Context, *lease.Held) error) error {
	g.do("contend for " + l.Name)
	if err := g.lost[l.Name]; err != nil {
		return err
	}
	<-ctx.Done()
	if g.last != nil {
		<-g.last
	}
	g.do(fmt.Sprintf("give up %s: %v", l.Name, context.Cause(ctx)))
	return g.lateLoss
}

func (g *ground) Update(l lease.Lock) bool {
	g.do(fmt.Sprintf("update %s: %d, %s", l.Name, l.Priority, l.PreemptDelay))
	return true
}

func (g *ground) Prioritize(delta int) int {
	g.do(fmt.Sprintf("prioritize %+d", delta))
	return delta
}

func (g *ground) Leave() { g.do("leave") }

// configured reads a configuration of these addresses, each of which may be
// followed by lines of its block.
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
