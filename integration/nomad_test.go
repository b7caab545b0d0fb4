package integration

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestJobFiles has Nomad itself look at every job file, as it is.
func TestJobFiles(t *testing.T) {
	nomad := nomadCluster(t)
	files, err := filepath.Glob(filepath.Join(jobFiles(t), "*.nomad.hcl"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		out, err := nomad.Run(t.Context(), "job", "validate", "-var=image=consul-vip:1", file)
		if err != nil { // it has no such variable
			out, err = nomad.Run(t.Context(), "job", "validate", file)
		}
		require.NoError(t, err)
		require.Contains(t, out, "Job validation successful", file)
		require.NotContains(t, out, "Warning", file)
	}
}

func TestNomad(t *testing.T) {
	s := newJobScene(t, "consul-vip-raw-exec.nomad.hcl", netip.MustParseAddr("10.77.2.1"))
	s.vars = append(s.vars, fmt.Sprintf("-var=vips=[%q]", s.vip))
	s.prefer(s.Servers[2])
	s.submit()
	s.each("one owner appears", s.oneOwner)
	s.each("its log is readable", s.readable)
	s.each("its allocation is stopped", s.allocStop)
	s.each("the job is updated", s.update)
	s.each("exit 4", s.sessionDestroyed)
	s.each("exit 5", s.foreignClaim)
	s.each("killed", s.killed)
	s.each("its node is drained", s.nodeDrain)
}

// prefer gives a client the metadata by which the job prefers it.
func (s *jobScene) prefer(h *lab.Host) {
	s.t.Helper()
	node, err := s.nomad.NodeID(h)
	s.NoError(err)
	s.operate("node", "meta", "apply", "-node-id="+node, "vip_priority=10")
	s.t.Cleanup(func() {
		_, err := s.nomad.Run(context.Background(), "node", "meta", "apply", "-node-id="+node, "-unset=vip_priority")
		s.NoError(err)
	})
}

func (s *jobScene) oneOwner(*testing.T) {
	owner := s.ready()
	_, record := s.lockOf(s.vip)
	s.Equal(s.allocation(owner).ID, record.AllocID)
	s.Equal(job, record.Job)
	for i, priority := range []int{100, 100, 10} { // the last by the client's metadata
		s.await(s.memberWith(s.Servers[i], s.vip, priority))
	}
}

func (s *jobScene) readable(*testing.T) {
	owner := s.ready()
	s.await(condition{"the states in the log of the task on " + owner.Name, func() error {
		entries, err := s.entries(owner)
		if err != nil {
			return err
		}
		var states []string
		for _, e := range entries {
			if e.Message() == "state changed" {
				states = append(states, e.Get("state"))
			}
		}
		if want := []string{"standby", "acquired", "active"}; len(states) < 3 || !slices.Equal(states[:3], want) {
			return fmt.Errorf("%v", states)
		}
		return nil
	}})
}

// allocStop stops the owner's allocation. Nomad replaces an allocation of a system
// job only at the next evaluation of the job.
func (s *jobScene) allocStop(*testing.T) {
	owner := s.ready()
	before := s.allocation(owner)
	s.operate("alloc", "stop", before.ID)
	s.handedOver(owner)
	s.operate("job", "eval", job)
	s.awaitWithin(2*soon, s.complete())
	s.NotEqual(before.ID, s.allocation(owner).ID)
}

// update changes the job. Meanwhile no two hosts may be without an instance.
func (s *jobScene) update(t *testing.T) {
	s.ready()
	version := s.allocation(s.Servers[0]).JobVersion
	ended := make(chan error, 1)
	go func() {
		_, err := s.nomad.Run(t.Context(), s.submission("-var=log_level=debug")...)
		ended <- err
	}()
	s.awaitWithin(2*time.Minute, condition{"the end of the update", func() error {
		allocs, err := s.nomad.Allocations(job)
		if err != nil {
			return err
		}
		running := 0
		for _, a := range allocs {
			if a.Running() == nil {
				running++
			}
		}
		s.GreaterOrEqual(running, len(s.Servers)-1, "running tasks, as max_parallel is 1")
		select {
		case err := <-ended:
			s.NoError(err)
			return nil
		default:
			return fmt.Errorf("%d running tasks", running)
		}
	}})
	s.await(s.complete())
	s.owner()
	s.Less(s.client.Report().Longest().Length(), longestGap, "time without an answer")
	for _, h := range s.Servers {
		s.Greater(s.allocation(h).JobVersion, version, "version of the job on %s", h.Name)
	}
}

func (s *jobScene) sessionDestroyed(*testing.T) {
	owner := s.ready()
	before, session := s.allocation(owner), s.session()
	s.destroySession()
	s.ownedAnew(session)
	s.restarted(owner, before, 4)
}

func (s *jobScene) foreignClaim(*testing.T) {
	owner := s.ready()
	before, session := s.allocation(owner), s.session()
	s.claim(lab.ARPRequest, strangerMAC)
	s.ownedAnew(session)
	s.restarted(owner, before, 5)
}

func (s *jobScene) killed(*testing.T) {
	owner := s.ready()
	before, session := s.allocation(owner), s.session()
	s.operate("alloc", "signal", "-s=SIGKILL", before.ID)
	s.ownedAnew(session)
	s.restarted(owner, before, 137)
}

// nodeDrain drains the owner's node. Nomad 1.11.2 does not start the job by itself
// when the node is eligible again (hashicorp/nomad issue 27495).
func (s *jobScene) nodeDrain(*testing.T) {
	owner := s.ready()
	node := s.allocation(owner).NodeID
	s.operate("node", "drain", "-enable", "-yes", "-deadline=1m", node)
	s.handedOver(owner)
	_, err := s.nomad.Allocation(job, agents, owner)
	s.Error(err, "an allocation is still meant to run there")
	s.operate("node", "eligibility", "-enable", node)
	s.operate("job", "eval", job)
	s.awaitWithin(2*soon, s.complete())
}

// TestNomadVariables adds an address to a Nomad variable. The other one is not touched.
func TestNomadVariables(t *testing.T) {
	s := newJobScene(t, "consul-vip-variables.nomad.hcl", netip.MustParseAddr("10.77.2.2"), netip.MustParseAddr("10.77.2.3"))
	const path = "nomad/jobs/" + job
	put := func(vips string) {
		s.operate("var", "put", "-force", "-out=none", path, "vips="+vips, "consul_token=none")
	}
	t.Cleanup(func() {
		_, err := s.nomad.Run(context.Background(), "var", "purge", path)
		s.NoError(err)
	})
	put(s.vip.String())
	s.submit("-detach")
	owner := s.ready()
	s.onlyFirst()

	events := s.monitor(owner)
	put(fmt.Sprintf("%s,%s", s.vips[0], s.vips[1]))
	s.awaitWithin(2*soon, s.allBound())
	s.await(s.ownedBy(owner))
	s.holds(removed(events, s.vip, false))
	s.Equal([]string{owner.Name}, s.client.Report().Hosts(), "owners seen by the client")
	for _, h := range s.Servers {
		s.Zero(s.allocation(h).TaskStates[job].Restarts, "restarts on %s", h.Name)
	}
}

// onlyFirst requires that no address but the first is bound.
func (s *jobScene) onlyFirst() {
	s.t.Helper()
	bound, err := s.bound()
	s.NoError(err)
	s.Len(bound, 1)
	s.Contains(bound, s.vip)
}
