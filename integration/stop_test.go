package integration

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestStop stops the owner: a standby takes over, and Consul forgets the instance.
func TestStop(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			inFamilies(t, func(_ *testing.T, s *scene, _ family) {
				p := s.startAll(config{})[0]
				h1 := p.Host
				session := s.session()

				s.signal(p, signal)
				s.exits(p, 0, stopTime+slack)
				s.holds(s.notOn(h1))
				next := s.takenOver(h1)
				s.seen(h1, next)
				s.announced(h1, next)
				s.await(s.sessionGone(session))
				s.forgotten(h1)
			})
		})
	}
}

// forgotten requires that Consul has neither service nor member of a host's instance.
func (s *scene) forgotten(h *lab.Host) {
	s.t.Helper()
	var services map[string]*api.AgentService
	s.retry("listing the services", func() (err error) {
		services, err = s.Cluster.Of(h).API.Agent().Services()
		return err
	})
	for id, service := range services {
		s.NotEqual(s.name, service.Service, "service %s is still registered", id)
	}
	s.Nil(s.get(memberKey(h)), "it is still a member")
}

// TestStopOneByOne stops one owner after the other until no instance is left.
func TestStopOneByOne(t *testing.T) {
	s := newScene(t)
	procs := s.startAll(config{})
	owner := procs[0].Host
	s.stop(procs[0])
	for range procs[1:] {
		owner = s.takenOver(owner)
		s.stop(s.instanceOn(owner))
	}

	pair, r := s.lockOf(s.vip)
	s.Empty(pair.Session, "session of the lock")
	s.Equal("released", r.State)
	s.NotEmpty(r.Reason)
	s.EqualValues(api.LockFlagValue, pair.Flags)
	s.await(s.statusIs(s.Servers[0], "free"))
	for _, h := range s.Servers {
		s.Nil(s.get(memberKey(h)), "%s is still a member", h.Name)
	}
}

// TestStopAtOnce stops all instances at the same time. The owner's successor stops too. No
// address and no lock stays behind, and no question gets two answers.
func TestStopAtOnce(t *testing.T) {
	t.Parallel()
	inFamilies(t, func(_ *testing.T, s *scene, _ family) {
		for range 3 { // the order in which they stop differs, and each time they start anew
			procs := s.startAll(config{})
			for _, p := range procs {
				s.signal(p, syscall.SIGTERM)
			}
			for _, p := range procs {
				s.exits(p, 0, stopTime+slack)
			}
			s.holds(s.unbound())
			s.await(condition{"no session on the lock", func() error {
				pair, _, err := s.lock(s.vip)
				if err == nil && pair.Session != "" {
					err = fmt.Errorf("session %s", pair.Session)
				}
				return err
			}})
			for _, p := range procs {
				if mentioned(p, "could not clean up in Consul") == 0 { // it has a second for that
					s.forgotten(p.Host)
				}
			}
		}
	})
}

// TestStopWhileConsulIsFrozen stops an owner whose Consul agent does not answer.
func TestStopWhileConsulIsFrozen(t *testing.T) {
	s := newScene(t)
	h2, h3 := s.Servers[1], s.Servers[2]
	p := s.startOn(config{}, h2, h3)[0]
	s.freezeConsul(h2)

	s.signal(p, syscall.SIGTERM)
	s.await(s.notOn(h2))
	began := time.Now()
	s.exits(p, 0, stopTime+slack)
	t.Logf("exited %v after the address was gone", time.Since(began))
	s.takenOver(h2)
	s.seen(h2, h3)
}

// freezeConsul freezes the Consul agent of a host until the end of the test.
func (s *scene) freezeConsul(h *lab.Host) {
	s.t.Helper()
	agent := s.Cluster.Of(h)
	s.NoError(agent.Freeze(s.t.Context()))
	s.t.Cleanup(func() {
		s.NoError(agent.Thaw())
		s.consulReady()
	})
}
