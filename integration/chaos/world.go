package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	prefix = "consul-vip" // of the keys, the default

	// startLimit is how long the cluster may take to start.
	startLimit = 2 * time.Minute
	// askLimit is how long one server may take to answer.
	askLimit = 2 * time.Second
	// askEvery is how often the observer asks for each of the addresses.
	askEvery = 10 * time.Millisecond
)

// stranger is the hardware address of the forged frames.
var stranger = net.HardwareAddr{2, 0, 0, 0, 0xff, 1}

// vipOf returns an address by its number.
func vipOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 1, byte(1 + i)}) }

func lockKey(vip netip.Addr) string { return prefix + "/" + vip.String() + "/.lock" }
func pinKey(vip netip.Addr) string  { return prefix + "/" + vip.String() + "/pin" }
func drainKey(n *node) string       { return prefix + "/.drain/" + n.Name }

func releaseKey(vip netip.Addr) string { return prefix + "/" + vip.String() + "/release" }

// none is no number of an address.
const none = -1

// configuration is that of every instance, without one of the addresses. They
// differ in what there is to choose, so that one run tries it all.
func configuration(without int) string {
	var b strings.Builder
	b.WriteString("log_level = \"debug\"\nlog_json = true\nconsul { session_ttl = \"10s\" }\n")
	for i := range vips {
		var more string
		switch {
		case i == without:
			continue
		case i < 4: // the defaults
		case i < 6:
			more = "preempt = true\n  preempt_delay = \"2s\""
		case i < 8:
			more = `on_loss = "contend"`
		case i < 9:
			more = `on_conflict = "defend"`
		default:
			more = "dead_man = \"3s\"\n  announce { interval = \"1s\" }"
		}
		fmt.Fprintf(&b, "vip %q {\n  %s\n}\n", vipOf(i), more)
	}
	return b.String()
}

// world is the lab with everything in it.
type world struct {
	lab.Hosts
	lab     *lab.Lab
	cluster *lab.Cluster
	consul  string // path of the Consul binary
	nodes   []*node
	witness *lab.Observer
	journal *journal
}

// node is a host with what runs on it and what can be done to it.
type node struct {
	*lab.Host
	server   *lab.Server
	instance *supervisor

	halted, consulDown, unplugged, cut *latch
}

// newWorld builds the lab and starts Consul in it, but no instance yet.
func newWorld(ctx context.Context, consul, binary string, j *journal, blame func(string, string, ...any)) (w *world, err error) {
	w = &world{consul: consul, journal: j}
	if w.lab, err = lab.New(""); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.Hosts, err = w.lab.AddHosts(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if w.cluster, err = lab.StartCluster(ctx, consul, lab.ClusterConfig{RaftMultiplier: 1}, w.Servers); err != nil {
		return nil, err
	}
	for _, s := range w.cluster.Servers {
		n, err := newNode(s, binary, j, blame)
		if err != nil {
			return nil, err
		}
		w.nodes = append(w.nodes, n)
	}
	var addrs []netip.Addr
	for i := range vips {
		addrs = append(addrs, vipOf(i))
	}
	w.witness, err = w.Observer.NewObserver(askEvery, addrs...)
	return w, err
}

func newNode(s *lab.Server, binary string, j *journal, blame func(string, string, ...any)) (*node, error) {
	h := s.Host
	n := &node{Host: h, server: s}
	if err := n.configure(none); err != nil {
		return nil, err
	}
	n.instance = newSupervisor(h, lab.Command{Args: []string{binary, "agent", "-config=" + n.config()}}, j, blame)
	n.halted = &latch{do: n.instance.halt, undo: n.instance.resume}
	n.consulDown = &latch{do: s.Kill, undo: s.Start}
	n.unplugged = &latch{
		do:   func() error { return h.Unplug("eth0") },
		undo: func() error { return h.Plug("eth0") },
	}
	n.cut = &latch{
		do:   func() error { return h.CutOff(context.Background()) },
		undo: func() error { return h.Heal(context.Background()) },
	}
	return n, nil
}

func (n *node) config() string { return filepath.Join(n.Dir, "consul-vip.hcl") }

// configure writes the configuration for when it is read next, whole at any time.
func (n *node) configure(without int) error {
	partial := n.config() + ".new"
	if err := os.WriteFile(partial, []byte(configuration(without)), 0o644); err != nil {
		return err
	}
	return os.Rename(partial, n.config())
}

func (w *world) close() error {
	if w.witness != nil {
		w.witness.Stop()
	}
	return w.lab.Close()
}

// ask asks one Consul server after the other until one has answered, those
// first that nothing was done to.
func (w *world) ask(ctx context.Context, f func(context.Context, *api.Client) error) error {
	var well, harmed []*node
	for _, n := range w.nodes {
		if n.consulDown.held() || n.unplugged.held() || n.cut.held() {
			harmed = append(harmed, n)
		} else {
			well = append(well, n)
		}
	}
	var errs []error
	for _, n := range append(well, harmed...) {
		once, cancel := context.WithTimeout(ctx, askLimit)
		err := f(once, n.server.API)
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// bound returns who has each address, as the kernels say.
func (w *world) bound() (map[netip.Addr][]string, error) {
	bound := make(map[netip.Addr][]string)
	for _, n := range w.nodes {
		addrs, err := n.Bound()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if a != n.Addr {
				bound[a] = append(bound[a], n.Name)
			}
		}
	}
	return bound, nil
}

// nodeOf returns the node of a host by its name, or nil.
func (w *world) nodeOf(name string) *node {
	for _, n := range w.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}
