package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/config"
)

func newWishes() wishes {
	return wishes{hangups: make(chan os.Signal, 1), nudges: make(chan os.Signal, 16)}
}

func TestHangupsLoadTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var (
			w   = newWishes()
			log bytes.Buffer
			now = &config.Config{NodeName: "first"}
			bad error
		)
		loaded := w.configs(ctx, func() (*config.Config, error) { return now, bad },
			hclog.New(&hclog.LoggerOptions{Output: &log}))
		synctest.Wait()
		w.hangups <- unix.SIGHUP
		synctest.Wait()
		now = &config.Config{NodeName: "second"} // before anybody has taken the first
		w.hangups <- unix.SIGHUP
		assert.Equal(t, "first", (<-loaded).NodeName)
		assert.Equal(t, "second", (<-loaded).NodeName)

		bad = errors.New("vip.hcl:2:3: not like that\nbut like this")
		w.hangups <- unix.SIGHUP
		synctest.Wait()
		select {
		case <-loaded:
			t.Error("it is not to be taken up")
		default:
		}
		assert.Regexp(t, `(?s)\[ERROR\].*nothing has changed.*vip.hcl:2:3: not like that.*but like this`, log.String())

		bad = nil
		w.hangups <- unix.SIGHUP
		synctest.Wait()
		cancel() // while it waits for somebody to take the configuration
	})
}

func TestNudgesAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWishes()
		deltas := w.priorities(ctx)
		for _, s := range []os.Signal{unix.SIGUSR1, unix.SIGUSR1, unix.SIGUSR2, unix.SIGUSR1} {
			w.nudges <- s
		}
		synctest.Wait()
		assert.Equal(t, -2, <-deltas)
		w.nudges <- unix.SIGUSR2
		assert.Equal(t, 1, <-deltas)
		w.nudges <- unix.SIGUSR1
		w.nudges <- unix.SIGUSR2
		synctest.Wait()
		select {
		case <-deltas:
			t.Error("nothing is left to add")
		default:
		}
	})
}

// Signals that come while the agent starts must not end the process.
func TestWishesAreCaught(t *testing.T) {
	w, stop := catchWishes()
	defer stop()
	for _, s := range []unix.Signal{unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2} {
		assert.NoError(t, unix.Kill(os.Getpid(), s))
	}
	assert.Equal(t, unix.SIGHUP, <-w.hangups)
	assert.ElementsMatch(t, []os.Signal{unix.SIGUSR1, unix.SIGUSR2}, []os.Signal{<-w.nudges, <-w.nudges})
}
