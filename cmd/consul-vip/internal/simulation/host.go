package simulation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/lease/consul"
)

// The exit codes of README, and the ends of a process that has none.
const (
	exitStopped  = 0
	exitFailure  = 1
	exitLost     = 4
	exitConflict = 5
	exitKilled   = 137
)

// errTerminated is how a scheduler stops a process.
var errTerminated = errors.New("stopped by signal: terminated")

// host is one machine of the cluster: a kernel, a Consul agent and a scheduler that
// keeps an instance running. The cluster's mutex guards it.
type host struct {
	cluster *cluster
	name    string
	kernel  *kernel
	consul  *simconsul.Agent

	config    *config.Config
	process   *process // nil: none runs
	wanted    bool     // the scheduler starts an instance
	starting  *time.Timer
	started   int
	behind    time.Duration // the boot-time clock: pauses that no clock of the guest counted
	standing  bool          // the whole machine stands still
	unfit     string        // why its service is not fit; empty: it is
	powerless bool
}

// process is one instance.
type process struct {
	host     *host
	name     string
	gate     *gate
	machine  *machine
	diary    *diary
	stop     context.CancelCauseFunc
	reload   chan *config.Config
	hangup   latest.Wake
	priority chan int
	began    time.Duration
	stopped  time.Duration // when it was told to stop; 0: it was not
	hindered bool          // it was paused, or its kernel was slow
	done     chan struct{}
}

// now is the host's boot-time clock.
func (h *host) now() time.Duration {
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	return time.Hour + h.cluster.log.elapsed() - h.behind
}

// start starts an instance. Call it with the mutex held.
func (h *host) start() {
	h.started++
	p := &process{
		host: h, name: fmt.Sprintf("%s/%d", h.name, h.started), gate: newGate(),
		reload: make(chan *config.Config), hangup: latest.NewWake(), priority: make(chan int), done: make(chan struct{}),
		began: h.cluster.log.elapsed(),
	}
	p.machine = newMachine(h.kernel, p.gate)
	p.diary = newDiary(p, uint64(h.started))
	h.process = p
	var ctx context.Context
	ctx, p.stop = context.WithCancelCause(context.Background())
	h.cluster.log.add(p.name, "started")
	cfg := h.config
	h.cluster.processes.Go(p.reloads)
	h.cluster.processes.Go(func() { p.run(ctx, cfg) })
}

// reloads reads the configuration again after each SIGHUP, until the process ends.
func (p *process) reloads() {
	for {
		select {
		case <-p.hangup:
		case <-p.done:
			return
		}
		p.host.cluster.mu.Lock()
		cfg := p.host.config
		p.host.cluster.mu.Unlock()
		send(p, p.reload, cfg)
	}
}

// services tells a process the health of its host's only service.
type services struct{ p *process }

// ServiceHealth implements health.Services.
func (s services) ServiceHealth(context.Context, string) (reason string, err error) {
	if err := s.p.gate.pass(); err != nil {
		return "", err
	}
	s.p.host.cluster.mu.Lock()
	defer s.p.host.cluster.mu.Unlock()
	return s.p.host.unfit, nil
}

// run runs the agent and reports its end to the scheduler.
func (p *process) run(ctx context.Context, cfg *config.Config) {
	log := hclog.New(&hclog.LoggerOptions{Level: cfg.LogLevel, Output: p.host.cluster.log.writer(p.name), DisableTime: true})
	wrap := p.host.cluster.transport(p)
	err := agent.RunOn(ctx, agent.Options{
		Config:   cfg,
		Client:   consul.New(p.host.consul.Client(wrap), nil),
		Services: services{p},
		Version:  "simulated",
		Logger:   log,
		Reload:   p.reload,
		Priority: p.priority,
	}, agent.Machine{Host: p.machine, OpenWire: p.machine.openWire, Program: p.diary.run, Now: p.now})
	p.stop(nil)
	close(p.done)
	p.machine.close()
	p.host.ended(p, err)
	p.gate.kill()
}

// now is the clock as the process reads it.
func (p *process) now() time.Duration {
	_ = p.gate.pass()
	return p.host.now()
}

// exitCode is that of the command for an error of the agent: see exit.go of
// cmd/consul-vip.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitStopped
	case errors.Is(err, agent.ErrConflict):
		return exitConflict
	case errors.Is(err, lease.ErrLockLost), errors.Is(err, lease.ErrSessionLost), errors.Is(err, agent.ErrAddressLost):
		return exitLost
	}
	return exitFailure
}

// ended is called when a process has ended.
func (h *host) ended(p *process, err error) {
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	code := exitCode(err)
	if p.gate.ctx.Err() != nil {
		code = exitKilled
	}
	h.cluster.log.add(p.name, "ended with %d: %v", code, err)
	h.cluster.exited(p, code, err)
	if h.process == p {
		h.process = nil
	}
	if h.wanted && h.process == nil && !h.powerless {
		h.startLater()
	}
}

// startLater starts the next instance after the scheduler's back-off.
func (h *host) startLater() {
	pause := h.cluster.between(500*time.Millisecond, 4*time.Second)
	if h.cluster.chance(0.1) {
		pause *= 6
	}
	if h.cluster.calm {
		pause = time.Second
	}
	h.starting = time.AfterFunc(pause, func() {
		h.cluster.mu.Lock()
		defer h.cluster.mu.Unlock()
		if h.wanted {
			h.ensure()
		}
	})
}

// ensure starts an instance now, if none runs and the machine does. Call it with the
// mutex held.
func (h *host) ensure() {
	h.wanted = true
	if h.process == nil && !h.powerless && !h.standing {
		if h.starting != nil {
			h.starting.Stop()
		}
		h.start()
	}
}

// terminate sends SIGTERM to the instance.
func (h *host) terminate() {
	if p := h.process; p != nil && p.stopped == 0 {
		h.cluster.log.add(p.name, "SIGTERM")
		p.stopped = h.cluster.log.elapsed()
		p.stop(errTerminated)
	}
}

// kill sends SIGKILL to the instance. The scheduler learns of its end at once; its
// goroutines end soon, without any effect.
func (h *host) kill() {
	if p := h.process; p != nil {
		h.cluster.log.add(p.name, "SIGKILL")
		p.stop(errKilled)
		p.gate.kill()
	}
}

// standStill makes the whole machine stand still. The function that it returns wakes it.
func (h *host) standStill(lifetimes, bootTime bool) (wake func()) {
	h.cluster.mu.Lock()
	p, since := h.process, h.cluster.log.elapsed()
	if p != nil {
		p.gate.pause()
	}
	h.standing = true
	h.cluster.mu.Unlock()
	h.cluster.locked(func() { h.kernel.stop(lifetimes) })
	h.consul.Freeze()
	return func() {
		h.cluster.locked(h.kernel.wake)
		h.consul.Thaw()
		h.cluster.mu.Lock()
		defer h.cluster.mu.Unlock()
		h.standing = false
		if !bootTime {
			h.behind += h.cluster.log.elapsed() - since
		}
		if p != nil {
			p.gate.resume()
		}
		if h.wanted {
			h.ensure() // the scheduler's timer may have fired meanwhile
		}
	}
}

// send delivers v to the process, unless it ends first.
func send[T any](p *process, to chan T, v T) {
	select {
	case to <- v:
	case <-p.done:
	}
}
