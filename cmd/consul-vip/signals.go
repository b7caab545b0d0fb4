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

// signals receives the signals that tell a running agent to change something.
type signals struct {
	// hangups has room for one SIGHUP: a reload covers every SIGHUP sent before it.
	hangups chan os.Signal
	// prioritySteps receives SIGUSR1 and SIGUSR2. Each counts, so it has room for a burst.
	prioritySteps chan os.Signal
}

func newSignals() signals {
	return signals{hangups: make(chan os.Signal, 1), prioritySteps: make(chan os.Signal, 16)}
}

// catchSignals catches the signals until restore is called. A signal that is not
// caught ends the process, so the agent calls this before anything else.
func catchSignals() (s signals, restore func()) {
	s = newSignals()
	signal.Notify(s.hangups, unix.SIGHUP)
	signal.Notify(s.prioritySteps, unix.SIGUSR1, unix.SIGUSR2)
	return s, func() {
		signal.Stop(s.hangups)
		signal.Stop(s.prioritySteps)
	}
}

// configs starts a goroutine that calls load after each SIGHUP and sends the
// result. It logs an error of load and sends nothing. The goroutine ends with
// ctx or stop; stop waits for it, and so for a load that has begun.
func (s signals) configs(ctx context.Context, load func() (*config.Config, error), log hclog.Logger) (loaded <-chan *config.Config, stop func()) {
	configs := make(chan *config.Config)
	return configs, background(ctx, func(ctx context.Context) {
		for {
			select {
			case <-s.hangups:
			case <-ctx.Done():
				return
			}
			cfg, err := load()
			if err != nil {
				log.Error("configuration not reloaded, nothing has changed", "error", err)
				continue
			}
			select {
			case configs <- cfg:
			case <-ctx.Done():
				return
			}
		}
	})
}

// priorities starts a goroutine that adds up the priority steps and sends the
// sum, unless it is zero, as soon as the receiver is ready. The goroutine ends
// with ctx or stop; stop waits for it.
func (s signals) priorities(ctx context.Context) (deltas <-chan int, stop func()) {
	sums := make(chan int)
	return sums, background(ctx, func(ctx context.Context) {
		sum := 0
		for {
			var ready chan int // nil, and so never ready, while the sum is zero
			if sum != 0 {
				ready = sums
			}
			select {
			case sig := <-s.prioritySteps:
				sum += priorityStep(sig)
			case ready <- sum:
				sum = 0
			case <-ctx.Done():
				return
			}
		}
	})
}

// priorityStep is the number that a signal adds to the priority. A lower number
// is a better priority.
func priorityStep(sig os.Signal) int {
	if sig == unix.SIGUSR1 {
		return -1
	}
	return 1
}

// untilStopSignal returns a context that ends with SIGTERM or SIGINT and names
// the signal in its cause. Call stop to free its goroutine, which it waits for;
// it also ends the context.
func untilStopSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGTERM, unix.SIGINT)
	join := background(ctx, func(ctx context.Context) {
		select {
		case sig := <-caught:
			cancel(fmt.Errorf("stopped by signal: %s", sig))
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		signal.Stop(caught)
		cancel(errors.New("done"))
		join()
	}
}

// background calls run in a goroutine. stop ends the context of run and waits
// until run has returned.
func background(ctx context.Context, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}
