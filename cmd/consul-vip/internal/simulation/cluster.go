// Package simulation runs a whole cluster in virtual time: real agents on simulated
// hosts, with a simulated Consul, a simulated Ethernet segment and simulated kernels,
// inside one synctest bubble. Faults are drawn from a seed, and invariants are checked
// at every step.
//
// cluster.go assembles a cluster and runs it, faults.go draws what breaks it (each
// faults_*.go has some kinds, occasion.go waits for the moment), invariants.go says what
// must hold, take.go and death.go what must hold of a host that does not answer. host.go
// is a machine with its process and its scheduler. machine.go, socket.go and events.go are
// what a process sees of its machine, gate.go stops it. kernel.go, gateway.go, segment.go
// and frame.go are the network, sight.go is what a host hears of another one, client.go
// asks who answers. log.go keeps what happened, stats.go counts.
package simulation

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// cluster is a simulated cluster.
type cluster struct {
	log       *journal
	net       *network
	consul    *simconsul.Cluster
	keys      state.Keys
	addrs     []netip.Addr // all that any configuration may name
	hosts     []*host
	processes sync.WaitGroup
	base      config.Config // of every host, but for the priorities
	theme     theme

	ledger *ledger

	// Owned by the goroutine of run.
	recent     []past
	roundBegan time.Duration
	otherUntil time.Duration // until then faults that concern more than one address may have an effect

	takes takes // guarded by the network's mutex

	alone     atomic.Bool  // the fault that is under way, and no other one is felt
	lateNow   atomic.Int32 // how many faults are under way that make requests to Consul late
	lateUntil atomic.Int64 // until then requests may be late that were made during one

	mu    sync.Mutex // guards all following fields and the hosts
	rand  *rand.Rand
	calm  bool // no fault is under way
	exits []exit

	failures violations
}

// felt returns the faults that may still have an effect: those of the last rounds.
func (c *cluster) felt(round []fault) []fault {
	now := c.log.elapsed()
	for _, f := range round {
		c.recent = append(c.recent, past{f, now})
		if !f.kind.address {
			c.otherUntil = now + c.feltFor()
		}
	}
	var felt []fault
	c.recent = slices.DeleteFunc(c.recent, func(p past) bool {
		return p.settled < c.roundBegan-c.feltFor()
	})
	for _, p := range c.recent {
		felt = append(felt, p.fault)
	}
	return felt
}

// feltFor is how long a fault may have an effect that comes late.
func (c *cluster) feltFor() time.Duration { return c.base.Consul.SessionTTL + 5*time.Second }

// past is a fault, and when everything was as it should be after it.
type past struct {
	fault   fault
	settled time.Duration
}

// exit is the end of a process.
type exit struct {
	at      time.Duration
	process *process
	code    int
	err     error
}

// newCluster draws a cluster from a seed.
func newCluster(seed uint64) *cluster {
	draw := rand.New(rand.NewPCG(seed, 0))
	log := newJournal()
	c := &cluster{log: log, net: newNetwork(log, seed), rand: rand.New(rand.NewPCG(seed, 2)), keys: state.NewKeys("consul-vip"), theme: drawTheme(seed), takes: newTakes()}
	c.net.client.violated, c.net.client.judge = c.violate, c.judgeBind
	c.base = drawConfig(draw)
	c.net.segment.noise = drawNoise(rand.New(rand.NewPCG(seed, 8)), c.theme)
	if c.net.segment.noise > 0 {
		c.tolerate()
	}
	c.net.longestLifetime = c.base.Consul.SessionTTL - lease.Margin
	for _, v := range c.base.VIPs {
		c.addrs = append(c.addrs, v.Addr())
	}
	c.ledger = &ledger{log: log, judge: c.changed, locks: map[string]state.Lock{}}
	c.consul = simconsul.NewCluster(simconsul.Config{
		Rand:    rand.New(rand.NewPCG(seed, 3)),
		Changed: c.ledger.changed,
		Log:     func(line string) { log.add("consul", "%s", line) },
	})
	c.consul.SetToken(token, simconsul.FullToken())
	hosts := []int{3, 3, 3, 3, 4, 5, 7}[draw.IntN(7)]
	for i := range hosts {
		name := fmt.Sprintf("h%d", i+1)
		h := &host{cluster: c, name: name, consul: c.consul.Agent(name), config: drawPriorities(draw, c.base)}
		h.kernel = newKernel(c.net, name, mac{2, 0, 0, 0, 0, byte(i + 1)}, newOwnAddrs(byte(11+i)))
		c.hosts = append(c.hosts, h)
	}
	c.net.drawSegment(rand.New(rand.NewPCG(seed, 7)))
	return c
}

// drawNoise draws which share of all frames is lost as long as the cluster exists.
func drawNoise(draw *rand.Rand, t theme) float64 {
	if t == bearableFaults {
		return pick(draw, 0, 0, 0, 0, 0, 0, 0, 0.01)
	}
	return pick(draw, 0, 0, 0, 0, 0, 0, 0.01, 0.05)
}

// tolerate configures as many misses as are needed where frames get lost.
func (c *cluster) tolerate() {
	for i := range c.base.VIPs {
		if check := &c.base.VIPs[i].HostCheck; check.Misses > 0 {
			check.Misses = config.DefaultHostCheckMisses
		}
	}
}

// drawConfig draws a configuration. The TTLs are short, because a cluster with longer
// ones does the same, only later.
func drawConfig(draw *rand.Rand) config.Config {
	cfg := config.Config{LogLevel: hclog.Info, Consul: config.Consul{
		Prefix: config.DefaultPrefix, Service: config.DefaultService,
		SessionTTL: 10 * time.Second,
		CheckTTL:   pick(draw, 2*time.Second, 3*time.Second, 3*time.Second, 5*time.Second, 0),
	}, Checks: []config.Check{service}}
	if draw.IntN(3) == 0 {
		cfg.Hooks = hooks
	}
	check := drawHostCheck(draw)
	for i := range pick(draw, 1, 2, 2, 3, 3, 4, 6) {
		addr := floating(draw, byte(100+i))
		v := config.VIP{
			Prefix:     netip.PrefixFrom(addr, addr.BitLen()),
			Interface:  ifname,
			Priority:   config.DefaultPriority,
			OnConflict: pick(draw, config.ConflictExit, config.ConflictExit, config.ConflictExit, config.ConflictContend, config.ConflictDefend, config.ConflictLog),
			OnLoss:     pick(draw, config.LossExit, config.LossExit, config.LossContend),
			Takeover:   pick(draw, config.TakeoverProbe, config.TakeoverProbe, config.TakeoverProbe, config.TakeoverStrict),
			DeadMan:    max(3*time.Second, cfg.Consul.CheckTTL+2*time.Second),
			Announce:   config.Announce{Interval: 10 * time.Second, Jitter: time.Second},
		}
		if v.Takeover != config.TakeoverStrict {
			v.HostCheck = check
		}
		if draw.IntN(3) == 0 {
			v.Require, v.WhenNoneFit = []string{service.Name}, pick(draw, config.NoneFitKeep, config.NoneFitKeep, config.NoneFitRelease)
		}
		if draw.IntN(3) == 0 {
			v.PreemptDelay = pick(draw, time.Second, 3*time.Second, 10*time.Second)
		}
		cfg.VIPs = append(cfg.VIPs, v)
	}
	return cfg
}

// service is the check that some addresses require.
var service = config.Check{Name: "web", Service: "web", Interval: sec, Timeout: 500 * ms, Rise: 1, Fall: 1}

// floating draws an address of either family that ends with a number.
func floating(draw *rand.Rand, number byte) netip.Addr {
	own := newOwnAddrs(number)
	return pick(draw, own.v4, own.v6)
}

// drawHostCheck draws a host check. Most are slow: a cluster with the default, whose
// frames make up most of what is simulated, does the same.
func drawHostCheck(draw *rand.Rand) config.HostCheck {
	return pick(draw,
		config.HostCheck{Interval: config.DefaultHostCheckInterval, Misses: config.DefaultHostCheckMisses},
		config.HostCheck{Interval: 200 * time.Millisecond, Misses: 3},
		config.HostCheck{Interval: 200 * time.Millisecond, Misses: 5},
		config.HostCheck{Interval: time.Second, Misses: 3},
		config.HostCheck{Interval: time.Second}, // off
	)
}

// drawPriorities draws a host's own priorities.
func drawPriorities(draw *rand.Rand, base config.Config) *config.Config {
	cfg := base
	cfg.VIPs = nil
	same := draw.IntN(2) == 0
	for _, v := range base.VIPs {
		if !same {
			v.Priority = pick(draw, 50, 100, 100, 150)
		}
		cfg.VIPs = append(cfg.VIPs, v)
	}
	return &cfg
}

func pick[T any](draw *rand.Rand, from ...T) T { return from[draw.IntN(len(from))] }

// between and chance draw for the cluster. Call them with the mutex held.
func (c *cluster) between(low, high time.Duration) time.Duration {
	return low + time.Duration(c.rand.Int64N(int64(high-low)+1))
}

func (c *cluster) chance(probability float64) bool { return c.rand.Float64() < probability }

// locked calls f with the network's mutex held.
func (c *cluster) locked(f func()) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	f()
}

// transport puts a process's gate before its Consul agent.
func (c *cluster) transport(p *process) func(http.RoundTripper) http.RoundTripper {
	return func(base http.RoundTripper) http.RoundTripper {
		return consul.Transport(gatedTransport{p, base})
	}
}

// recovers is longer than the longest back-off of anything that failed.
const recovers = 6 * time.Second

// run starts the cluster, injects the faults in rounds, and stops it.
func (c *cluster) run(rounds [][]fault) {
	for _, h := range c.hosts {
		c.mu.Lock()
		h.ensure()
		c.mu.Unlock()
	}
	c.settle(nil, nil)
	for _, round := range rounds {
		if c.failures.any() {
			break
		}
		if c.theme == bearableFaults {
			time.Sleep(recovers) // two that are short need not be, one after the other
		}
		if len(round) == 1 && round[0].kind.name == "crash" {
			time.Sleep(c.feltFor())
			c.alone.Store(true)
		}
		before := c.moves()
		c.inject(round)
		c.alone.Store(false)
		c.settle(round, before)
	}
	c.stop()
}

// inject begins and ends the faults of a round.
func (c *cluster) inject(round []fault) {
	c.setCalm(false)
	c.roundBegan = c.log.elapsed()
	began := time.Now()
	var all sync.WaitGroup
	for _, f := range round {
		all.Go(func() {
			time.Sleep(f.at - time.Since(began))
			c.log.add("fault", "%s begins", f)
			if f.kind.late {
				defer c.makesLate()()
			}
			end := f.kind.begin(c, f)
			if end == nil {
				return
			}
			time.Sleep(f.lasts)
			end()
			c.log.add("fault", "%s ends", f)
		})
	}
	stop := make(chan struct{})
	var checks sync.WaitGroup
	checks.Go(func() { c.checkAlways(stop) })
	all.Wait()
	close(stop)
	checks.Wait()
}

// makesLate begins a time in which requests to Consul are late, and returns what ends it.
func (c *cluster) makesLate() (end func()) {
	c.lateNow.Add(1)
	return func() {
		c.lateUntil.Store(int64(c.log.elapsed() + c.feltFor()))
		c.lateNow.Add(-1)
	}
}

// late reports whether a request may be carried out that was made long ago.
func (c *cluster) late() bool {
	return c.lateNow.Load() > 0 || int64(c.log.elapsed()) < c.lateUntil.Load()
}

// checkAlways checks what must hold at any time until stop closes.
func (c *cluster) checkAlways(stop <-chan struct{}) {
	tick := time.NewTicker(settleStep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.check()
		case <-stop:
			return
		}
	}
}

func (c *cluster) setCalm(calm bool) {
	if calm {
		c.withdraw()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calm = calm
	for _, h := range c.hosts {
		if calm {
			h.ensure()
		}
	}
}

// withdraw deletes the keys of operators: a restored snapshot may have brought some back.
func (c *cluster) withdraw() {
	for _, pair := range c.consul.List(c.keys.Folder()) {
		own := strings.HasSuffix(pair.Key, "/.lock") || strings.HasPrefix(pair.Key, c.keys.Member(""))
		for !own && c.consul.Delete(pair.Key) != nil {
			time.Sleep(settleStep)
		}
	}
}

// stop stops every instance, and everything that runs.
func (c *cluster) stop() {
	c.mu.Lock()
	for _, h := range c.hosts {
		h.wanted = false
		if h.starting != nil {
			h.starting.Stop()
		}
		h.terminate()
	}
	c.mu.Unlock()
	c.processes.Wait()
	if !c.failures.any() {
		c.checkStopped()
	}
	c.consul.Close()
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for _, k := range c.net.kernels {
		for _, a := range k.addresses {
			if a.expires != nil {
				a.expires.Stop()
			}
		}
	}
	for addr := range c.net.strangers {
		delete(c.net.strangers, addr)
	}
}
