package integration

// Instances that Nomad runs by a job file: the job, its allocations and their logs.

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

// job is the name of the job in every job file, and agents its group of consul-vip.
const (
	job    = "consul-vip"
	agents = "consul-vip"
)

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
	_, err := s.nomad.Run(ctx, "job", "stop", "-purge", "-no-shutdown-delay", job)
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
		a, err = s.nomad.Allocation(job, agents, h)
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
			a, err := s.nomad.Allocation(job, agents, h)
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
	a, err := s.nomad.Allocation(job, agents, h)
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
		a, err := s.nomad.Allocation(job, agents, h)
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
