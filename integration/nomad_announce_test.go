package integration

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// floating is the name of the job whose address floats with its group.
const floating = "floating"

// TestNomadAnnounce has an address float with a group of Nomad: the allocation is stopped,
// the sidecar is killed, and one claims the address.
func TestNomadAnnounce(t *testing.T) {
	nomad := nomadCluster(t)
	s := newScene(t)
	operate := func(ctx context.Context, args ...string) {
		s.t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		_, err := nomad.Run(ctx, args...)
		s.NoError(err)
	}
	t.Cleanup(func() { operate(context.Background(), "job", "stop", "-purge", floating) })
	operate(t.Context(), "job", "run", "-var=binary="+s.ConsulVIP, "-var=ip="+s.vip.String(),
		"-var=command=/bin/sleep", `-var=args=["86400"]`, filepath.Join(jobFiles(t), "announce.nomad.hcl"))

	owner := s.floatsOn(nomad, nil)
	s.restartClient()
	s.await(s.answeredBy(owner))
	node, err := nomad.NodeID(owner)
	s.NoError(err)
	operate(t.Context(), "node", "eligibility", "-disable", node)
	t.Cleanup(func() { operate(context.Background(), "node", "eligibility", "-enable", node) })
	a, err := nomad.Allocation(floating, "service", owner)
	s.NoError(err)
	operate(t.Context(), "alloc", "stop", a.ID)
	next := s.floatsOn(nomad, owner)
	s.Equal([]string{owner.Name, next.Name}, s.client.Report().Hosts(), "owners in their order")

	a, err = nomad.Allocation(floating, "service", next)
	s.NoError(err)
	operate(t.Context(), "alloc", "signal", "-s=SIGKILL", a.ID, "address")
	s.awaitWithin(2*soon, s.restartedSidecar(nomad, next, 1))
	s.floatsOn(nomad, owner)
}

// floatsOn waits until a host other than old has the address and the allocation, and
// returns it.
func (s *scene) floatsOn(nomad *lab.NomadCluster, old *lab.Host) (on *lab.Host) {
	s.t.Helper()
	s.awaitWithin(2*time.Minute, condition{"the address to float to where its allocation is", func() error {
		for _, h := range s.Servers {
			if a, err := nomad.Allocation(floating, "service", h); h != old && err == nil && a.Running() == nil {
				on = h
				return s.answeredBy(h).seen()
			}
		}
		return fmt.Errorf("no allocation runs on another host")
	}})
	return on
}

// restartedSidecar is met when Nomad has started the sidecar again.
func (s *scene) restartedSidecar(nomad *lab.NomadCluster, h *lab.Host, times int) condition {
	return condition{"a new sidecar on " + h.Name, func() error {
		a, err := nomad.Allocation(floating, "service", h)
		if err != nil {
			return err
		}
		if n := a.TaskStates["address"].Restarts; n < times {
			return fmt.Errorf("%d restarts", n)
		}
		return a.Running()
	}}
}
