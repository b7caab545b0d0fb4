package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/config"
)

// steps is what a signal adds to the priority, of which less is better.
var steps = map[os.Signal]int{unix.SIGUSR1: -1, unix.SIGUSR2: 1}

// wishes are the signals that a running agent fulfils. Without anybody to catch
// them, each ends the process.
type wishes struct {
	hangups chan os.Signal // one that waits stands for all
	nudges  chan os.Signal
}

// catchWishes catches them from now on, also before there is an agent.
func catchWishes() (w wishes, stop func()) {
	w = wishes{hangups: make(chan os.Signal, 1), nudges: make(chan os.Signal, 16)}
	signal.Notify(w.hangups, unix.SIGHUP)
	signal.Notify(w.nudges, unix.SIGUSR1, unix.SIGUSR2)
	return w, func() {
		signal.Stop(w.hangups)
		signal.Stop(w.nudges)
	}
}

// configs loads the configuration anew for every hangup until ctx ends. What
// cannot be loaded is logged.
func (w wishes) configs(ctx context.Context, load func() (*config.Config, error), log hclog.Logger) <-chan *config.Config {
	loaded := make(chan *config.Config)
	go func() {
		for {
			select {
			case <-w.hangups:
			case <-ctx.Done():
				return
			}
			cfg, err := load()
			if err != nil {
				log.Error("the configuration is not reloaded, nothing has changed", "error", err)
				continue
			}
			select {
			case loaded <- cfg:
			case <-ctx.Done():
				return
			}
		}
	}()
	return loaded
}

// priorities adds up what is to be added to the priority, for whenever somebody
// takes it, until ctx ends.
func (w wishes) priorities(ctx context.Context) <-chan int {
	deltas := make(chan int)
	go func() {
		sum := 0
		for {
			var ready chan int // nil, which nobody takes from, while there is nothing
			if sum != 0 {
				ready = deltas
			}
			select {
			case s := <-w.nudges:
				sum += steps[s]
			case ready <- sum:
				sum = 0
			case <-ctx.Done():
				return
			}
		}
	}()
	return deltas
}

// stoppedBySignal returns a context that ends with SIGTERM or SIGINT, whichever
// the scheduler prefers, and says so in its cause.
func stoppedBySignal() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel(fmt.Errorf("stopped by signal: %s", s))
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(errors.New("done"))
	}
}
