package hook

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/command"
	"github.com/consul-vip/consul-vip/config"
)

var (
	vip  = netip.MustParseAddr("10.77.0.100")
	vip2 = netip.MustParseAddr("fd77::100")
	all  = []config.HookEvent{
		config.HookAcquired, config.HookPreRelease, config.HookReleased, config.HookLost,
		config.HookConflict, config.HookUnfit, config.HookFit,
	}
)

// run is a Runner at work, in a synctest bubble, whose programs only take time.
type run struct {
	*Runner
	mu    sync.Mutex
	ran   []string // the program and its event, skipped events and address
	takes time.Duration
	fails error
	most  int // that ran at the same time
	runs  int

	stop func()
}

func (r *run) start(ctx context.Context, args, env []string) command.Result {
	r.mu.Lock()
	r.runs++
	r.most = max(r.most, r.runs)
	takes, fails := r.takes, r.fails
	r.ran = append(r.ran, strings.Join(append(slices.Clone(args), value(env, "EVENT"), value(env, "SKIPPED"), value(env, "ADDRESS")), " "))
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.runs--
	}()
	select {
	case <-time.After(takes):
		return command.Result{Err: fails}
	case <-ctx.Done():
		return command.Result{Err: context.Cause(ctx)}
	}
}

func value(env []string, name string) string {
	for _, v := range env {
		if text, ok := strings.CutPrefix(v, "CONSUL_VIP_HOOK_"+name+"="); ok {
			return text
		}
	}
	return "-"
}

// set changes what programs do.
func (r *run) set(takes time.Duration, fails error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takes, r.fails = takes, fails
}

// log returns what has been run since the last call.
func (r *run) log() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	ran := r.ran
	r.ran = nil
	return ran
}

func bubble(t *testing.T, hooks []config.Hook, test func(r *run)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		r := &run{}
		r.Runner = New(hclog.NewNullLogger(), r.start)
		r.Set(hooks)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = r.Run(ctx)
		}()
		r.stop = func() { cancel(); <-ended }
		test(r)
		r.stop()
	})
}

func hooks(timeout time.Duration, names ...string) (hooks []config.Hook) {
	for _, name := range names {
		hooks = append(hooks, config.Hook{Name: name, On: all, Command: []string{name}, Timeout: timeout})
	}
	return hooks
}

func TestHooksRunInOrder(t *testing.T) {
	list := hooks(5*time.Second, "a", "b", "c")
	list[1].On = []config.HookEvent{config.HookReleased}
	list[2].VIPs = []netip.Addr{vip2}
	bubble(t, list, func(r *run) {
		r.Post(Event{Kind: config.HookAcquired, Address: vip})
		assert.Equal(t, []string{"a acquired 0 10.77.0.100"}, r.log())
		r.Post(Event{Kind: config.HookReleased, Address: vip})
		assert.Equal(t, []string{"a released 0 10.77.0.100", "b released 0 10.77.0.100"}, r.log())
		r.Post(Event{Kind: config.HookFit, Address: vip2})
		assert.Equal(t, []string{"a fit 0 fd77::100", "c fit 0 fd77::100"}, r.log())
	})
}

// Of what comes and goes while a hook hangs, the last is reported.
func TestEventsWait(t *testing.T) {
	bubble(t, hooks(5*time.Second, "a"), func(r *run) {
		r.set(time.Second, nil)
		for _, kind := range []config.HookEvent{
			config.HookAcquired, config.HookUnfit, config.HookReleased, config.HookAcquired, config.HookFit, config.HookLost, config.HookUnfit,
		} {
			r.Post(Event{Kind: kind, Address: vip})
			synctest.Wait()
		}
		r.Post(Event{Kind: config.HookConflict, Address: vip2})
		assert.Equal(t, []string{"a acquired 0 10.77.0.100", "a conflict 0 fd77::100"}, r.log(), "another address does not wait")
		time.Sleep(1500 * time.Millisecond)
		assert.Equal(t, []string{"a lost 2 10.77.0.100"}, r.log())
		time.Sleep(time.Second)
		assert.Equal(t, []string{"a unfit 2 10.77.0.100"}, r.log())
		time.Sleep(time.Minute)
		assert.Empty(t, r.log())
	})
}

// A hook that fails or hangs keeps nobody for longer than its timeout.
func TestHookHangs(t *testing.T) {
	for name, test := range map[string]struct {
		takes time.Duration
		fails error
		text  string
	}{
		"fails": {time.Second, errors.New("exit status 1"), "hook a: exit status 1\nhook b: exit status 1"},
		"hangs": {time.Hour, nil, "hook a: it took longer than its timeout\nhook b: it took longer than its timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, hooks(5*time.Second, "a", "b"), func(r *run) {
				r.set(test.takes, test.fails)
				result := make(chan error, 1)
				began := time.Now()
				r.Post(Event{Kind: config.HookAcquired, Address: vip, Report: func(err error) { result <- err }})
				assert.EqualError(t, <-result, test.text)
				assert.Equal(t, 2*min(test.takes, 5*time.Second), time.Since(began))
				time.Sleep(time.Hour)
				assert.Len(t, r.log(), 2, "nothing is tried again")
			})
		})
	}
}

// A hook that must succeed is tried again, later and later, until it does or something else comes.
func TestInsist(t *testing.T) {
	for name, end := range map[string]func(r *run){
		"succeeds": func(r *run) { r.set(0, nil) },
		"released": func(r *run) { r.Post(Event{Kind: config.HookReleased, Address: vip}) },
		"removed":  func(r *run) { r.Set(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, hooks(5*time.Second, "a"), func(r *run) {
				r.set(0, errors.New("status 429"))
				var results []error
				var at []time.Duration
				began := time.Now()
				r.Post(Event{Kind: config.HookAcquired, Address: vip, Insist: true, Report: func(err error) {
					results, at = append(results, err), append(at, time.Since(began))
				}})
				time.Sleep(10 * time.Second)
				r.Post(Event{Kind: config.HookUnfit, Address: vip}) // of another sort
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				s := time.Second
				assert.Equal(t, []time.Duration{0, s, 3 * s, 7 * s, 15 * s, 31 * s, 61 * s, 91 * s, 121 * s}, at)
				assert.EqualError(t, results[0], "hook a: status 429")
				end(r)
				time.Sleep(time.Hour)
				synctest.Wait()
				assert.Equal(t, map[string]int{"succeeds": 10, "released": 9, "removed": 10}[name], len(at))
			})
		})
	}
}

// A program that must succeed for a tenure is killed when that ends; no other is.
func TestInsistEndsWithTheTenure(t *testing.T) {
	for insist, want := range map[bool]time.Duration{true: time.Second, false: 5 * time.Second} {
		bubble(t, hooks(5*time.Second, "a"), func(r *run) {
			r.set(time.Hour, nil)
			ended := make(chan error, 1)
			began := time.Now()
			r.Post(Event{Kind: config.HookAcquired, Address: vip, Insist: insist, Report: func(err error) { ended <- err }})
			time.Sleep(500 * time.Millisecond)
			r.Post(Event{Kind: config.HookUnfit, Address: vip})
			time.Sleep(500 * time.Millisecond)
			r.Post(Event{Kind: config.HookLost, Address: vip})
			assert.Error(t, <-ended)
			assert.Equal(t, want, time.Since(began))
			time.Sleep(time.Minute)
			assert.Equal(t, []string{"a acquired 0 10.77.0.100", "a unfit 0 10.77.0.100", "a lost 0 10.77.0.100"}, r.log())
		})
	}
}

// Only the hooks that failed are run again.
func TestInsistOnTheRest(t *testing.T) {
	bubble(t, hooks(5*time.Second, "a", "b"), func(r *run) {
		r.program = func(ctx context.Context, args, env []string) command.Result {
			result := r.start(ctx, args, env)
			if args[0] == "b" && len(r.ran) < 4 {
				result.Err = errors.New("status 500")
			}
			return result
		}
		r.Post(Event{Kind: config.HookAcquired, Address: vip, Insist: true})
		time.Sleep(time.Hour)
		assert.Equal(t, []string{"a acquired 0 10.77.0.100", "b acquired 0 10.77.0.100", "b acquired 0 10.77.0.100", "b acquired 0 10.77.0.100"}, r.log())
	})
}

func TestAwait(t *testing.T) {
	bubble(t, hooks(time.Minute, "a"), func(r *run) {
		r.set(3*time.Second, nil)
		assert.Equal(t, time.Minute, r.Timeout(config.HookPreRelease, vip))
		began := time.Now()
		r.Await(context.Background(), Event{Kind: config.HookPreRelease, Address: vip})
		assert.Equal(t, 3*time.Second, time.Since(began))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r.Await(ctx, Event{Kind: config.HookPreRelease, Address: vip})
		assert.Equal(t, 4*time.Second, time.Since(began))
		synctest.Wait()
		assert.Zero(t, r.runs, "it was killed")
	})
}

// At the end everything that was posted is run, nothing is tried again, and no hook keeps the
// process for ever.
func TestEnd(t *testing.T) {
	t.Run("runs", func(t *testing.T) {
		bubble(t, hooks(5*time.Second, "a"), func(r *run) {
			r.set(time.Second, errors.New("exit status 1"))
			r.Post(Event{Kind: config.HookAcquired, Address: vip})
			synctest.Wait()
			r.Post(Event{Kind: config.HookLost, Address: vip, Insist: true})
			began := time.Now()
			r.stop()
			assert.Equal(t, 2*time.Second, time.Since(began))
			assert.Equal(t, []string{"a acquired 0 10.77.0.100", "a lost 0 10.77.0.100"}, r.log())
		})
	})
	t.Run("waits for another try", func(t *testing.T) {
		bubble(t, hooks(5*time.Second, "a"), func(r *run) {
			r.set(0, errors.New("exit status 1"))
			r.Post(Event{Kind: config.HookAcquired, Address: vip, Insist: true})
			synctest.Wait()
			r.stop()
			assert.Len(t, r.log(), 1)
		})
	})
	t.Run("hangs", func(t *testing.T) {
		bubble(t, hooks(5*time.Second, "a"), func(r *run) {
			r.set(time.Hour, nil)
			for _, kind := range []config.HookEvent{config.HookAcquired, config.HookLost, config.HookFit} {
				r.Post(Event{Kind: kind, Address: vip})
				synctest.Wait()
			}
			began := time.Now()
			r.stop()
			assert.Equal(t, 10*time.Second, time.Since(began))
		})
	})
}

// A thousand addresses at once start no thousand programs.
func TestManyAddresses(t *testing.T) {
	bubble(t, hooks(5*time.Second, "a"), func(r *run) {
		r.set(10*time.Millisecond, nil)
		for addr, i := vip, 0; i < 1000; addr, i = addr.Next(), i+1 {
			r.Post(Event{Kind: config.HookAcquired, Address: addr})
		}
		time.Sleep(time.Second)
		assert.Len(t, r.log(), 1000)
		assert.Equal(t, atOnce, r.most)
		assert.Empty(t, r.queues)
	})
}

func TestEnvironment(t *testing.T) {
	j := &job{skipped: 3, Event: Event{
		Kind: config.HookAcquired, Address: vip2, Interface: "eth0", Node: "h1", PreviousNode: "h2",
		Reason: "a\x00b\n\x1b[1m" + strings.Repeat("é", 2000),
	}}
	env := environment([]string{"PATH=/bin", "CONSUL_VIP_LOG_LEVEL=debug", "CONSUL_VIP_HOOK_EVENT=x", "CONSUL_HTTP_TOKEN=t"}, j)
	reason := value(env, "REASON")
	assert.True(t, strings.HasPrefix(reason, "a b  [1mé"), reason)
	assert.LessOrEqual(t, len(reason), maxReason)
	assert.Equal(t, []string{
		"PATH=/bin", "CONSUL_HTTP_TOKEN=t", "CONSUL_VIP_HOOK_EVENT=acquired", "CONSUL_VIP_HOOK_ADDRESS=fd77::100", "CONSUL_VIP_HOOK_FAMILY=ipv6",
		"CONSUL_VIP_HOOK_INTERFACE=eth0", "CONSUL_VIP_HOOK_NODE=h1", "CONSUL_VIP_HOOK_REASON=" + reason,
		"CONSUL_VIP_HOOK_PREVIOUS_NODE=h2", "CONSUL_VIP_HOOK_SKIPPED=3",
	}, env)
}

// A real program gets all that.
func TestRealProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	r := New(hclog.NewNullLogger(), command.Run)
	r.Set([]config.Hook{{Name: "a", On: all, Timeout: time.Minute, Command: []string{"sh", "-c", `echo "$CONSUL_VIP_HOOK_EVENT $CONSUL_VIP_HOOK_ADDRESS" >>` + file + "; exit 3"}}})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	r.Post(Event{Kind: config.HookLost, Address: vip, Report: func(err error) { result <- err }})
	cancel()
	require.NoError(t, r.Run(ctx))
	require.EqualError(t, <-result, "hook a: exit status 3")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "lost 10.77.0.100\n", string(text))
}
