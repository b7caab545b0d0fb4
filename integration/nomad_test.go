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

// sharedNomad is a Nomad cluster on the hosts of the shared lab.
var sharedNomad = sync.OnceValues(func() (*lab.NomadCluster, error) {
	w, err := sharedLabs[lab.ServersOnHosts].start()
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
	nomad := nomadCluster(t)
	s := &jobScene{scene: newSceneOf(t, everyAddress, vips...), nomad: nomad, file: filepath.Join(jobFiles(t), file)}
	s.vars = []string{"-var=binary=" + s.ConsulVIP, "-var=prefix=" + s.name}
	t.Cleanup(s.purge)
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

// purge stops the job. The end of the scene checks that no address is left.
func (s *jobScene) purge() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
	defer cancel()
	if s.t.Failed() {
		text := s.jobLog(ctx) // which Nomad forgets with the job
		s.logs = append(s.logs, func() string { return text })
	}
	_, err := s.nomad.Run(ctx, "job", "stop", "-purge", job)
	s.NoError(err)
}

// jobLog describes the allocations of the job, with their logs.
func (s *jobScene) jobLog(ctx context.Context) string {
	allocs, err := s.nomad.Allocations(job)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for _, a := range allocs {
		out, err := s.nomad.Run(ctx, "alloc", "logs", "-stderr", a.ID)
		fmt.Fprintf(&text, "log of allocation %+v (error: %v):\n%s\n", a, err, out)
	}
	return text.String()
}

// operate runs a nomad command that must succeed.
func (s *jobScene) operate(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	out, err := s.nomad.Run(ctx, args...)
	s.NoError(err)
	return out
}

// submit submits the job. Without "-detach" among the flags it returns when every
// instance is healthy.
func (s *jobScene) submit(flags ...string) {
	s.t.Helper()
	s.operate(s.submission(flags...)...)
}

// submission is the command that submits the job.
func (s *jobScene) submission(flags ...string) []string {
	return slices.Concat([]string{"job", "run"}, s.vars, flags, []string{s.file})
}

// each runs a part of the test, which may fail by itself.
func (s *jobScene) each(name string, part func(t *testing.T)) {
	s.t.Helper()
	whole := s.t.T
	whole.Run(name, func(t *testing.T) {
		s.t.T = t
		defer func() { s.t.T = whole }()
		part(t)
		t.Log("client:", s.client.Report())
	})
}

// allocation returns the allocation that is meant to run on a host.
func (s *jobScene) allocation(h *lab.Host) (a lab.Allocation) {
	s.t.Helper()
	s.retry("finding the allocation on "+h.Name, func() (err error) {
		a, err = s.nomad.Allocation(job, h)
		return err
	})
	return a
}

// ready waits until an instance on every host is there to take over and one owns
// the address, and restarts the client. It returns the owner.
func (s *jobScene) ready() *lab.Host {
	s.t.Helper()
	s.awaitWithin(2*soon, s.complete())
	owner := s.owner()
	s.restartClient()
	s.await(s.ownedBy(owner))
	return owner
}

// complete is met when a task runs on every host and its instance is a member.
func (s *jobScene) complete() condition {
	return condition{"a task and a member on every host", func() error {
		for _, h := range s.Servers {
			a, err := s.nomad.Allocation(job, h)
			if err != nil {
				return err
			}
			if err := a.Running(); err != nil {
				return err
			}
			if err := s.memberWithAnyPriority(h); err != nil {
				return err
			}
		}
		return nil
	}}
}

// memberWithAnyPriority is nil if a host's instance contends for the first address.
func (s *jobScene) memberWithAnyPriority(h *lab.Host) error {
	contended, err := s.priorities(h)
	if _, ok := contended[s.vip]; err == nil && !ok {
		err = fmt.Errorf("%s contends for %v", h.Name, contended)
	}
	return err
}

// handedOver waits until another host than old owns the address, and requires that
// it got the address as from a planned stop.
func (s *jobScene) handedOver(old *lab.Host) {
	s.t.Helper()
	next := s.takenOver(old)
	s.await(condition{fmt.Sprintf("%s to log that %s handed the address over", next.Name, old.Name), func() error {
		entries, err := s.entries(next)
		if err != nil {
			return err
		}
		var from []string
		for _, e := range entries {
			if e.Message() == "state changed" && e.Get("state") == "acquired" {
				from = append(from, e.Get("transferred_by"))
			}
		}
		if len(from) == 0 || from[len(from)-1] != old.Name {
			return fmt.Errorf("it handed over by %q", from)
		}
		return nil
	}})
	s.Less(s.client.Report().Longest().Length(), longestGap, "time without an answer")
}

// entries returns the log of the instance on a host, as Nomad stores it.
func (s *jobScene) entries(h *lab.Host) (entries []lab.Entry, err error) {
	a, err := s.nomad.Allocation(job, h)
	if err != nil {
		return nil, err
	}
	out, err := s.nomad.Run(s.t.Context(), "alloc", "logs", "-stderr", a.ID)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		var e lab.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("%w: %s", err, line) // the last line may still be incomplete
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// restarted waits until Nomad has restarted a task in the same allocation, after
// an exit with this code.
func (s *jobScene) restarted(h *lab.Host, before lab.Allocation, code int) {
	s.t.Helper()
	s.awaitWithin(2*soon, condition{"one restart of the task on " + h.Name, func() error {
		a, err := s.nomad.Allocation(job, h)
		if err != nil {
			return err
		}
		task := a.TaskStates[job]
		s.Equal(before.ID, a.ID, "the allocation")
		s.NotContains([]string{"failed", "lost"}, a.ClientStatus, "status of the allocation")
		s.False(task.Failed, "the task has failed")
		if n := task.Restarts - before.TaskStates[job].Restarts; n != 1 {
			return fmt.Errorf("%d restarts", n)
		}
		return a.Running()
	}})
	var codes []int
	for _, e := range s.allocation(h).TaskStates[job].Events {
		if e.Type == "Terminated" {
			codes = append(codes, e.ExitCode)
		}
	}
	s.NotEmpty(codes)
	s.Equal(code, codes[len(codes)-1], "exit code")
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
	_, err := s.nomad.Allocation(job, owner)
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
