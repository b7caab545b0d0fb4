package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// job is the name of the job in every job file.
const job = "consul-vip"

// plannedGap is what a client may miss when an owner is stopped. It takes a few
// milliseconds, on a machine that has nothing else to do.
const plannedGap = time.Second

// sharedNomad is a Nomad cluster on the hosts of the shared lab.
var sharedNomad = sync.OnceValues(func() (*lab.NomadCluster, error) {
	w, err := shared()
	if err != nil {
		return nil, err
	}
	bin, err := lab.Nomad.Find()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return lab.StartNomad(ctx, bin, lab.NomadConfig{}, w.Servers)
})

// jobScene is a scene whose instances Nomad runs, by one of the job files.
type jobScene struct {
	*scene
	nomad *lab.NomadCluster
	file  string
	vars  []string // for every run of the job
}

// newJobScene prepares a scene with these addresses; no job runs yet.
func newJobScene(t *testing.T, file string, vips ...netip.Addr) *jobScene {
	t.Helper()
	s := &jobScene{nomad: nomadCluster(t), file: filepath.Join(jobFiles(t), file)}
	s.scene = newSceneOf(t, sharedWorld(t), 10*time.Millisecond, vips...)
	s.vars = []string{"-var=binary=" + s.binary, "-var=prefix=" + s.name}
	t.Cleanup(s.stop)
	return s
}

// nomadCluster returns the Nomad cluster that the tests share.
func nomadCluster(t *testing.T) *lab.NomadCluster {
	t.Helper()
	needsNomad(t)
	nomad, err := sharedNomad()
	require.NoError(t, err)
	return nomad
}

// needsNomad skips the test where Nomad is not there or cannot run.
func needsNomad(t *testing.T) {
	t.Helper()
	if _, err := lab.Nomad.Find(); !wanted && errors.Is(err, lab.ErrNotFound) {
		t.Skip(err)
	}
	if lab.Nested() {
		t.Skip("Nomad needs the machine's own root: it gives directories to other users")
	}
}

// jobFiles returns the directory of the job files.
func jobFiles(t *testing.T) string {
	t.Helper()
	root, err := lab.ModuleRoot()
	require.NoError(t, err)
	return filepath.Join(root, "nomad")
}

// stop stops the job; the scene's own end sees to the rest.
func (s *jobScene) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
	defer cancel()
	if s.t.Failed() {
		s.tell(ctx)
	}
	if _, err := s.nomad.Run(ctx, "job", "stop", "-purge", job); err != nil {
		s.t.Error(err)
	}
}

// tell logs what became of the job.
func (s *jobScene) tell(ctx context.Context) {
	allocs, err := s.nomad.Allocations(job)
	if err != nil {
		s.t.Log(err)
	}
	for _, a := range allocs {
		out, err := s.nomad.Run(ctx, "alloc", "logs", "-stderr", a.ID)
		s.t.Logf("allocation %+v, error %v, log:\n%s", a, err, out)
	}
}

// operate runs a nomad command that must succeed.
func (s *jobScene) operate(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	out, err := s.nomad.Run(ctx, args...)
	require.NoError(s.t, err)
	return out
}

// run submits the job. Without "-detach" among the flags it returns when every
// instance is healthy.
func (s *jobScene) run(flags ...string) {
	s.t.Helper()
	s.operate(s.submit(flags...)...)
}

// submit is the command that submits the job.
func (s *jobScene) submit(flags ...string) []string {
	return slices.Concat([]string{"job", "run"}, s.vars, flags, []string{s.file})
}

// each runs a part of the test, which may fail by itself.
func (s *jobScene) each(name string, part func(t *testing.T)) {
	s.t.Helper()
	whole := s.t
	whole.Run(name, func(t *testing.T) {
		s.t = t
		defer func() { s.t = whole }()
		part(t)
		t.Log("client:", s.ping.Report())
	})
}

// allocation returns the allocation that is meant to run on a host.
func (s *jobScene) allocation(h *lab.Host) lab.Allocation {
	s.t.Helper()
	a, err := s.nomad.Allocation(job, h)
	require.NoError(s.t, err)
	return a
}

// settled waits until an instance on every host is there to take over and one
// owns the address, and measures anew. It returns the owner.
func (s *jobScene) settled() *lab.Host {
	s.t.Helper()
	s.eventually(2*soon, s.complete)
	owner := s.takenOver(nil)
	s.measure()
	s.eventually(soon, func() error { return s.ownedBy(owner) })
	return owner
}

// complete objects unless a task runs on every host and its instance is a member.
func (s *jobScene) complete() error {
	members, _, err := s.asked.API.KV().Keys(s.name+"/.members/", "", nil)
	if err != nil {
		return err
	}
	if len(members) != len(s.Servers) {
		return fmt.Errorf("%d members", len(members))
	}
	for _, h := range s.Servers {
		a, err := s.nomad.Allocation(job, h)
		if err != nil {
			return err
		}
		if err := a.Running(); err != nil {
			return err
		}
	}
	return nil
}

// handedOver waits until another host than old owns the address, and requires
// that the client missed no more than by a planned stop.
func (s *jobScene) handedOver(old *lab.Host) {
	s.t.Helper()
	s.takenOver(old)
	require.Less(s.t, s.ping.Report().Longest().Length(), plannedGap)
}

// restarted waits until Nomad has started a task anew in the same allocation,
// after an exit with this code.
func (s *jobScene) restarted(h *lab.Host, before lab.Allocation, code int) {
	s.t.Helper()
	s.eventually(2*soon, func() error {
		a, err := s.nomad.Allocation(job, h)
		if err != nil {
			return err
		}
		task := a.TaskStates[job]
		require.Equal(s.t, before.ID, a.ID, "the allocation is the same")
		require.NotContains(s.t, []string{"failed", "lost"}, a.ClientStatus)
		require.False(s.t, task.Failed)
		if n := task.Restarts - before.TaskStates[job].Restarts; n != 1 {
			return fmt.Errorf("%d restarts", n)
		}
		return a.Running()
	})
	var codes []int
	for _, e := range s.allocation(h).TaskStates[job].Events {
		if e.Type == "Terminated" {
			codes = append(codes, e.ExitCode)
		}
	}
	require.NotEmpty(s.t, codes)
	require.Equal(s.t, code, codes[len(codes)-1], "exit code")
}

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
	s.run()
	s.each("one owner appears", s.oneOwner)
	s.each("its log is readable", s.readable)
	s.each("its allocation is stopped", s.allocStop)
	s.each("the job is updated", s.update)
	s.each("exit 4", s.sessionDestroyed)
	s.each("exit 5", s.foreignClaim)
	s.each("killed", s.killed)
	s.each("its node is drained", s.drain)
}

// prefer gives a client the metadata by which the job prefers it.
func (s *jobScene) prefer(h *lab.Host) {
	s.t.Helper()
	node, err := s.nomad.NodeID(h)
	require.NoError(s.t, err)
	s.operate("node", "meta", "apply", "-node-id="+node, "vip_priority=10")
	s.t.Cleanup(func() {
		_, err := s.nomad.Run(context.Background(), "node", "meta", "apply", "-node-id="+node, "-unset=vip_priority")
		if err != nil {
			s.t.Error(err)
		}
	})
}

func (s *jobScene) oneOwner(t *testing.T) {
	owner := s.settled()
	_, record, err := s.record(s.vip)
	require.NoError(t, err)
	require.Equal(t, s.allocation(owner).ID, record.AllocID)
	require.Equal(t, job, record.Job)

	for _, h := range s.Servers {
		var member struct{ VIPs map[string]int }
		pair, _, err := s.asked.API.KV().Get(s.name+"/.members/"+h.Name, nil)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(pair.Value, &member))
		want := 100
		if h == s.Servers[2] {
			want = 10 // by the client's metadata
		}
		require.Equal(t, want, member.VIPs[s.vip.String()], h.Name)
	}
}

func (s *jobScene) readable(t *testing.T) {
	owner := s.settled()
	s.eventually(within, func() error {
		var states []string
		for line := range strings.Lines(s.operate("alloc", "logs", "-stderr", s.allocation(owner).ID)) {
			var e lab.Entry
			require.NoError(t, json.Unmarshal([]byte(line), &e), line)
			if e.Message() == "state changed" {
				states = append(states, e.Get("state"))
			}
		}
		if want := []string{"standby", "acquired", "active"}; len(states) < 3 || !slices.Equal(states[:3], want) {
			return fmt.Errorf("the states logged are %v, not %v first", states, want)
		}
		return nil
	})
}

// allocStop stops the owner's allocation. Nomad replaces a system job's only when
// the job is evaluated anew.
func (s *jobScene) allocStop(t *testing.T) {
	owner := s.settled()
	before := s.allocation(owner)
	s.operate("alloc", "stop", before.ID)
	s.handedOver(owner)
	s.operate("job", "eval", job)
	s.eventually(2*soon, s.complete)
	require.NotEqual(t, before.ID, s.allocation(owner).ID)
}

// update changes the job while it is watched that no two hosts are without it.
func (s *jobScene) update(t *testing.T) {
	s.settled()
	version := s.allocation(s.Servers[0]).JobVersion
	ended := make(chan error, 1)
	go func() {
		_, err := s.nomad.Run(t.Context(), s.submit("-var=log_level=debug")...)
		ended <- err
	}()
	s.eventually(2*time.Minute, func() error {
		allocs, err := s.nomad.Allocations(job)
		require.NoError(t, err)
		running := 0
		for _, a := range allocs {
			if a.Running() == nil {
				running++
			}
		}
		require.GreaterOrEqual(t, running, len(s.Servers)-1, "max_parallel is 1")
		select {
		case err := <-ended:
			require.NoError(t, err)
			return nil
		default:
			return errors.New("the update has not ended")
		}
	})
	s.eventually(soon, s.complete)
	s.takenOver(nil)
	require.Less(t, s.ping.Report().Longest().Length(), plannedGap)
	for _, h := range s.Servers {
		require.Greater(t, s.allocation(h).JobVersion, version)
	}
}

func (s *jobScene) sessionDestroyed(t *testing.T) {
	owner := s.settled()
	before := s.allocation(owner)
	_, record, err := s.record(s.vip)
	require.NoError(t, err)
	_, err = s.asked.API.Session().Destroy(record.Session, nil)
	require.NoError(t, err)
	s.takenOver(owner)
	s.restarted(owner, before, 4)
}

func (s *jobScene) foreignClaim(*testing.T) {
	owner := s.settled()
	before := s.allocation(owner)
	s.claim(lab.ARPRequest, foreign)
	s.takenOver(owner)
	s.restarted(owner, before, 5)
}

func (s *jobScene) killed(*testing.T) {
	owner := s.settled()
	before := s.allocation(owner)
	s.operate("alloc", "signal", "-s=SIGKILL", before.ID)
	s.takenOver(owner)
	s.restarted(owner, before, 137)
}

// drain drains the owner's node. Nomad 1.11.2 has to be reminded of the job when the
// node is eligible again (hashicorp/nomad issue 27495).
func (s *jobScene) drain(t *testing.T) {
	owner := s.settled()
	node := s.allocation(owner).NodeID
	s.operate("node", "drain", "-enable", "-yes", "-deadline=1m", node)
	s.handedOver(owner)
	_, err := s.nomad.Allocation(job, owner)
	require.Error(t, err, "nothing is meant to run there")
	s.operate("node", "eligibility", "-enable", node)
	s.operate("job", "eval", job)
	s.eventually(2*soon, s.complete)
}

// TestNomadVariables changes the addresses in a Nomad variable.
func TestNomadVariables(t *testing.T) {
	s := newJobScene(t, "consul-vip-variables.nomad.hcl", netip.MustParseAddr("10.77.2.2"), netip.MustParseAddr("10.77.2.3"))
	const path = "nomad/jobs/" + job
	put := func(vips string) {
		s.operate("var", "put", "-force", "-out=none", path, "vips="+vips, "consul_token=none")
	}
	t.Cleanup(func() {
		if _, err := s.nomad.Run(context.Background(), "var", "purge", path); err != nil {
			t.Error(err)
		}
	})
	put(s.vip.String())
	s.run("-detach")
	s.settled()
	require.Len(t, s.bound(t.Context()), 1)

	put(fmt.Sprintf("%s,%s", s.vips[0], s.vips[1]))
	s.eventually(2*soon, s.allBound)
	report := s.ping.Report()
	require.Len(t, report.Hosts(), 1, "the first address was not touched")
	require.Less(t, report.Longest().Length(), plannedGap)
	for _, h := range s.Servers {
		require.Zero(t, s.allocation(h).TaskStates[job].Restarts)
	}
}
