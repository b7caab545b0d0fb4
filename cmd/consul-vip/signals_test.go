package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/config"
)

// requireNoValue fails the test if a goroutine is sending on c. Call it in a
// synctest bubble after synctest.Wait.
func requireNoValue[T any](t *testing.T, c <-chan T, reason string) {
	t.Helper()
	select {
	case value := <-c:
		require.Fail(t, "unexpected value", "%v: %s", value, reason)
	default:
	}
}

func TestConfigsLoadsAfterEachHangup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			s       = newSignals()
			log     bytes.Buffer
			current = &config.Config{NodeName: "first"}
			loadErr error
		)
		loaded, stop := s.configs(t.Context(), func() (*config.Config, error) { return current, loadErr },
			hclog.New(&hclog.LoggerOptions{Output: &log}))
		synctest.Wait()
		s.hangups <- unix.SIGHUP
		synctest.Wait()
		current = &config.Config{NodeName: "second"} // before the first is received
		s.hangups <- unix.SIGHUP
		assert.Equal(t, "first", (<-loaded).NodeName)
		assert.Equal(t, "second", (<-loaded).NodeName)

		loadErr = errors.New("vip.hcl:2:3: not like that\nbut like this")
		s.hangups <- unix.SIGHUP
		synctest.Wait()
		requireNoValue(t, loaded, "the configuration is invalid")
		assert.Regexp(t, `(?s)\[ERROR\].*nothing has changed.*vip.hcl:2:3: not like that.*but like this`, log.String())

		loadErr = nil
		s.hangups <- unix.SIGHUP
		synctest.Wait()
		stop() // while the goroutine waits for a receiver
		synctest.Wait()
		requireNoValue(t, loaded, "the goroutine has ended")
	})
}

func TestPrioritiesAddsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSignals()
		deltas, stop := s.priorities(t.Context())
		for _, sig := range []os.Signal{unix.SIGUSR1, unix.SIGUSR1, unix.SIGUSR2, unix.SIGUSR1} {
			s.prioritySteps <- sig
		}
		synctest.Wait()
		assert.Equal(t, -2, <-deltas)
		s.prioritySteps <- unix.SIGUSR2
		assert.Equal(t, 1, <-deltas)
		s.prioritySteps <- unix.SIGUSR1
		s.prioritySteps <- unix.SIGUSR2
		synctest.Wait()
		requireNoValue(t, deltas, "the sum is zero")

		s.prioritySteps <- unix.SIGUSR1
		synctest.Wait()
		stop() // while the goroutine waits for a receiver
		synctest.Wait()
		requireNoValue(t, deltas, "the goroutine has ended")
	})
}

// TestBackgroundIsJoined has a goroutine that needs a second to end.
func TestBackgroundIsJoined(t *testing.T) {
	for name, end := range map[string]func(cancel context.CancelFunc){
		"by stop":        func(context.CancelFunc) {},
		"by its context": func(cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ended := false
				stop := background(ctx, func(ctx context.Context) {
					<-ctx.Done()
					time.Sleep(time.Second)
					ended = true
				})
				end(cancel)
				stop()
				require.True(t, ended)
				stop() // once more is harmless
			})
		})
	}
}

// A signal that arrives while the agent starts must not end the process.
func TestCatchSignals(t *testing.T) {
	s, restore := catchSignals()
	defer restore()
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2} {
		require.NoError(t, unix.Kill(os.Getpid(), sig))
	}
	assert.Equal(t, unix.SIGHUP, <-s.hangups)
	assert.ElementsMatch(t, []os.Signal{unix.SIGUSR1, unix.SIGUSR2}, []os.Signal{<-s.prioritySteps, <-s.prioritySteps})
}

func TestUntilStopSignal(t *testing.T) {
	for sig, want := range map[unix.Signal]string{
		unix.SIGTERM: "stopped by signal: terminated",
		unix.SIGINT:  "stopped by signal: interrupt",
	} {
		ctx, stop := untilStopSignal()
		require.NoError(t, unix.Kill(os.Getpid(), sig))
		<-ctx.Done()
		require.EqualError(t, context.Cause(ctx), want)
		stop()
		require.EqualError(t, context.Cause(ctx), want, "the first cause stays")
	}
	ctx, stop := untilStopSignal()
	stop()
	require.EqualError(t, context.Cause(ctx), "done")
}
