package health

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
)

// fakeServices is a Consul agent with one service.
type fakeServices struct {
	mu   sync.Mutex // guards all following fields
	err  error
	hang bool
	away bool
	runs int
}

func (f *fakeServices) ServiceHealth(ctx context.Context, _ string) (reason string, err error) {
	f.mu.Lock()
	f.runs++
	unfit, hang, away := f.err, f.hang, f.away
	f.mu.Unlock()
	switch {
	case hang:
		<-ctx.Done()
		return "timed out after 500ms", nil
	case away:
		return "", errors.New("connection refused")
	case unfit != nil:
		return unfit.Error(), nil
	}
	return "", nil
}

// leave makes the agent not answer, or answer again.
func (f *fakeServices) leave(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

// ran returns how often the service was asked for.
func (f *fakeServices) ran() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.runs
}

func (f *fakeServices) set(err error, hang bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.hang = err, hang
}

// checking runs a check of a service, and test beside it. states returns what was reported
// since the last call.
func checking(t *testing.T, c config.Check, test func(t *testing.T, f *fakeServices, states func() []State)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var (
			mu  sync.Mutex
			all []State
		)
		f := &fakeServices{}
		c.Service = "web"
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Check(ctx, c, f, func(s State) {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, s)
			})
		}()
		test(t, f, func() (since []State) {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			since, all = all, nil
			return since
		})
		cancel()
		<-ended
	})
}

var usual = config.Check{Name: "web", Interval: time.Second, Timeout: 500 * time.Millisecond, Rise: 3, Fall: 2}

func TestCheckRisesAndFalls(t *testing.T) {
	checking(t, usual, func(t *testing.T, f *fakeServices, states func() []State) {
		require.Equal(t, []State{{Reason: "it has not run yet"}}, states())
		time.Sleep(2500 * time.Millisecond)
		require.Equal(t, []State{{Fit: true, Known: true}}, states())
		require.Equal(t, 3, f.ran())

		f.set(errors.New("no disk"), false)
		time.Sleep(time.Second)
		require.Empty(t, states(), "one run has failed")
		time.Sleep(time.Second)
		require.Equal(t, []State{{Known: true, Reason: "no disk"}}, states())
		f.set(nil, false)
		time.Sleep(2 * time.Second)
		require.Empty(t, states())
		time.Sleep(time.Second)
		require.Equal(t, []State{{Fit: true, Known: true}}, states())
	})
}

func TestCheckIsNeverFit(t *testing.T) {
	checking(t, usual, func(t *testing.T, f *fakeServices, states func() []State) {
		f.set(errors.New("no disk"), false)
		time.Sleep(time.Minute)
		all := states()
		require.Equal(t, State{Known: true, Reason: "no disk"}, all[len(all)-1])
		require.LessOrEqual(t, len(all), 3)
	})
}

// A hang is a failure, and the runs keep their times.
func TestCheckHangs(t *testing.T) {
	checking(t, usual, func(t *testing.T, f *fakeServices, states func() []State) {
		time.Sleep(5500 * time.Millisecond)
		states()
		f.set(nil, true)
		began := f.ran()
		time.Sleep(2 * time.Second)
		require.Equal(t, []State{{Known: true, Reason: "timed out after 500ms"}}, states())
		require.Equal(t, began+2, f.ran())
	})
}

// While the agent does not answer, everything stays as it was.
func TestCheckWithoutAnAgent(t *testing.T) {
	checking(t, usual, func(t *testing.T, f *fakeServices, states func() []State) {
		f.leave(true)
		time.Sleep(time.Minute)
		require.Equal(t, []State{{Reason: "it has not run yet"}}, states())
		f.leave(false)
		time.Sleep(4 * time.Second)
		require.Equal(t, []State{{Fit: true, Known: true}}, states())
		f.leave(true)
		time.Sleep(time.Minute)
		require.Empty(t, states())
		f.leave(false)
		f.set(errors.New("no disk"), false)
		time.Sleep(3 * time.Second)
		require.Equal(t, []State{{Known: true, Reason: "no disk"}}, states())
	})
}

// A reason that changes with every run is not reported with every run.
func TestCheckReasonsChange(t *testing.T) {
	checking(t, usual, func(t *testing.T, f *fakeServices, states func() []State) {
		for range 100 {
			f.set(errors.New(time.Now().String()), false)
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, len(states()), 2+100/10)
	})
}

func TestCheckFlaps(t *testing.T) {
	flapping := usual
	flapping.Rise, flapping.Fall = 1, 1
	checking(t, flapping, func(t *testing.T, f *fakeServices, states func() []State) {
		time.Sleep(usual.Interval / 2)
		for i := range 10 {
			var err error
			if i%2 == 0 {
				err = errors.New("no disk")
			}
			f.set(err, false)
			time.Sleep(time.Second)
		}
		all := states()
		require.False(t, all[len(all)-1].Fit)
		require.Contains(t, all[len(all)-1].Reason, "changed more than 6 times within 1m0s")
		f.set(nil, false)
		time.Sleep(58 * time.Second)
		for _, s := range states() {
			require.False(t, s.Fit)
		}
		time.Sleep(3 * time.Second)
		all = states()
		require.Equal(t, State{Fit: true, Known: true}, all[len(all)-1])
	})
}
