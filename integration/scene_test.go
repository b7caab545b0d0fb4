package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// everyAddress is how often the observer asks for an address.
const everyAddress = 10 * time.Millisecond

// scene is one test's part of a lab: addresses, a KV prefix and consul-vip
// instances of its own, a client of the first address and an observer of all.
//
// At the end of every test, no question on the wire may have been answered by two
// hosts, and no host may have kept an address.
type scene struct {
	*lab.Lab
	*checks
	name      string // the KV prefix and the service's name
	vip       netip.Addr
	vips      []netip.Addr
	client    *lab.Client      // of the first address
	observer  *lab.Observer    // of all addresses
	instances []*lab.Process   // of consul-vip; the end stops them
	others    []*lab.Process   // of other programs; the end kills them
	server    *lab.ConsulAgent // the Consul server that the test itself asks

	// excused says which questions two hosts may answer: none, unless a test expects it.
	excused func(lab.Double) bool
}

// scenes and addresses count the scenes and their addresses: each scene has its own name
// and addresses, also beside others in the same lab.
var scenes, addresses atomic.Int32

// newScene prepares a scene with one address in the shared lab. Nothing runs yet.
func newScene(t *testing.T) *scene {
	t.Helper()
	return newSceneIn(t, sharedLab(t))
}

// newSceneOf prepares a scene with these addresses in the shared lab.
func newSceneOf(t *testing.T, every time.Duration, vips ...netip.Addr) *scene {
	t.Helper()
	return newSceneWith(t, sharedLab(t), every, vips...)
}

// newClientsScene prepares a scene in the shared lab in which the hosts have client
// agents and Consul has a network of its own. Nothing runs yet.
func newClientsScene(t *testing.T) *scene {
	t.Helper()
	return newSceneIn(t, sharedLabOf(t, lab.Clients))
}

// newSceneIn prepares a scene with one IPv4 address in a lab.
func newSceneIn(t *testing.T, w *lab.Lab) *scene {
	t.Helper()
	return newSceneOfFamily(t, w, ipv4)
}

// newSceneWith prepares a scene with these addresses in a lab. The observer asks
// for each address at this interval.
func newSceneWith(t *testing.T, w *lab.Lab, every time.Duration, vips ...netip.Addr) *scene {
	t.Helper()
	s := &scene{Lab: w, checks: newChecks(t), vip: vips[0], vips: vips, server: w.Cluster.Servers[0]}
	s.name = fmt.Sprintf("scene-%d", scenes.Add(1))
	s.logsOfConsul()
	var err error
	s.observer, err = w.Observer.NewObserver(every, vips...)
	s.NoError(err)
	s.machine = newMachine(w.Observer)
	t.Cleanup(s.end)
	s.restartClient()
	t.Cleanup(func() { t.Log("client:", s.client.Stop()) })
	return s
}

// restartClient replaces the client by a new one. Before there is an owner, the
// kernel queues some of the requests in its neighbour cache and loses others: those
// say nothing about the program.
func (s *scene) restartClient() {
	s.t.Helper()
	if s.client != nil {
		s.client.Stop()
	}
	var err error
	s.client, err = s.Client.NewClient(s.vip)
	s.NoError(err)
}

// end stops all processes and checks the conditions that every test must meet.
func (s *scene) end() {
	s.endInstances()
	for _, p := range s.others {
		_ = p.Kill()
	}
	s.comes(soon, s.unbound())
	s.observer.Stop()
	s.machine.stop()
	if stalled := s.machine.stalled(); stalled > time.Second {
		s.t.Log("the machine stalled for", stalled)
	}
	doubles := s.observer.Doubles()
	if s.excused != nil {
		doubles = slices.DeleteFunc(doubles, s.excused)
	}
	if len(doubles) > 0 {
		assert.Fail(s.t, fmt.Sprintf("expected one answer to every question, saw %d with two, the first %v", len(doubles), doubles[0]))
	}
}

// endInstances stops the instances one after the other, in the reverse order of their
// start. The first one is usually the owner. If all stopped at once, it would wait for a
// successor that has just stopped, as in TestStopAtOnce.
func (s *scene) endInstances() {
	for _, p := range slices.Backward(s.instances) {
		if p.Running() {
			_ = p.Signal(syscall.SIGCONT)
			_ = p.Signal(syscall.SIGTERM) // an error says that it has just ended
		}
		if !s.comes(soon, ended(p)) {
			_ = p.Kill()
		}
	}
}

// launch starts another program than consul-vip agent, until the end of the test.
func (s *scene) launch(h *lab.Host, name string, c lab.Command) *lab.Process {
	s.t.Helper()
	p, err := h.Start(c)
	s.NoError(err)
	s.others = append(s.others, p)
	s.logOf(name, p)
	return p
}

func addr(a, b, c, d byte) netip.Addr { return netip.AddrFrom4([4]byte{a, b, c, d}) }

// addrs returns n addresses from 10.77.third.first on.
func addrs(third, first byte, n int) []netip.Addr {
	var list []netip.Addr
	for i := range n {
		list = append(list, addr(10, 77, third, first+byte(i)))
	}
	return list
}
