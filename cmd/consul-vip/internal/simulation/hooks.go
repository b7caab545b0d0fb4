package simulation

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/command"
	"github.com/consul-vip/consul-vip/config"
)

// hookTimeout is how long a hook may take.
const hookTimeout = 200 * ms

// hooks are those of a cluster that has some.
var hooks = []config.Hook{{
	Name: "diary", Command: []string{"diary"}, Timeout: hookTimeout,
	On: []config.HookEvent{
		config.HookAcquired, config.HookPreRelease, config.HookReleased, config.HookLost,
		config.HookConflict, config.HookFit, config.HookUnfit,
	},
}}

// diary is what the hooks of a process were told. It is safe for concurrent use.
type diary struct {
	p *process

	mu      sync.Mutex // guards all following fields
	rand    *rand.Rand
	running map[string]bool             // by address
	last    map[string]config.HookEvent // by address: the last event of a tenure
}

func newDiary(p *process, seed uint64) *diary {
	return &diary{
		p: p, rand: rand.New(rand.NewPCG(seed, 9)),
		running: map[string]bool{}, last: map[string]config.HookEvent{},
	}
}

var errHook = errors.New("exit status 1")

// run is a program that takes some time, fails, or hangs. It notes what it is told.
func (d *diary) run(ctx context.Context, _, env []string) command.Result {
	if err := d.p.gate.pass(); err != nil {
		return command.Result{Err: err}
	}
	told := map[string]string{}
	for _, v := range env {
		if name, value, ok := strings.Cut(v, "="); ok {
			told[strings.TrimPrefix(name, "CONSUL_VIP_HOOK_")] = value
		}
	}
	takes, fails := d.begin(told)
	defer d.end(told["ADDRESS"])
	select {
	case <-time.After(takes):
		return command.Result{Err: fails}
	case <-ctx.Done():
		return command.Result{Err: context.Cause(ctx)}
	}
}

// begin judges what a program is told.
func (d *diary) begin(told map[string]string) (takes time.Duration, fails error) {
	addr, event := told["ADDRESS"], config.HookEvent(told["EVENT"])
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.p.host.cluster
	c.log.add(d.p.name, "hook: %s %s (%s)", event, addr, told["REASON"])
	if d.running[addr] {
		c.violate("%s runs two hooks of %s at once", d.p.name, addr)
	}
	d.running[addr] = true
	if told["SKIPPED"] != "0" {
		delete(d.last, addr) // anything may have come before
	}
	before, known := d.last[addr]
	switch event {
	case config.HookFit, config.HookUnfit:
	case config.HookPreRelease:
		if known && before != config.HookAcquired {
			c.violate("%s prepares to release %s after %s", d.p.name, addr, before)
		}
	case config.HookAcquired:
		if known && before == config.HookAcquired && !strings.HasPrefix(told["REASON"], "it was not given away") {
			c.violate("%s acquired %s twice", d.p.name, addr)
		}
		d.last[addr] = event
	default:
		if known && before != config.HookAcquired {
			c.violate("%s: %s of %s after %s", d.p.name, event, addr, before)
		}
		d.last[addr] = event
	}
	takes = pick(d.rand, 0, ms, 20*ms, 20*ms, hookTimeout/2, time.Hour)
	if d.rand.IntN(4) == 0 {
		fails = errHook
	}
	return takes, fails
}

func (d *diary) end(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running[addr] = false
}
