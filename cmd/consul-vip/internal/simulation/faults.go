package simulation

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"time"

	"github.com/consul-vip/consul-vip/config"
)

// fault is one fault of a round. Everything about it was drawn from the seed.
type fault struct {
	kind  *kind
	at    time.Duration // since the round began
	lasts time.Duration
	host  int // by position
	peer  int // another host
	addr  int // by position
	draw  uint64
}

// kind is a kind of fault.
type kind struct {
	name   string
	weight int
	// shortest and longest are how long it lasts, or lengths are.
	shortest, longest time.Duration
	lengths           []time.Duration
	// begin makes the fault, and returns what ends it; nil: it ends by itself.
	begin func(c *cluster, f fault) (end func())
	// exits are the exit codes that it explains.
	exits []int
	// machine: it concerns a whole machine, which has one of these at a time.
	machine bool
	// address: it concerns one address only. ends is how many instances may end by
	// themselves because of it.
	address bool
	ends    int
	// late: requests to Consul may be carried out long after they were made.
	late bool
	// bearable is how long it may last without any address moving; nil: it may move
	// some at once.
	bearable func(c *config.Config) time.Duration
}

// String names the fault and its target.
func (f fault) String() string {
	return fmt.Sprintf("%s host=h%d peer=h%d addr=%d at=%s lasts=%s draw=%d", f.kind.name, f.host+1, f.peer+1, f.addr, f.at, f.lasts, f.draw)
}

// rand is the source of the fault's details.
func (f fault) rand() *rand.Rand { return rand.New(rand.NewPCG(f.draw, 4)) }

// theme is what the faults of a cluster have in common.
type theme int

const (
	anyFaults      theme = iota
	oneAddress           // those of a round concern the same address only
	bearableFaults       // they come one at a time, and are too short to move an address
)

// drawTheme draws the theme of a cluster.
func drawTheme(seed uint64) theme {
	return pick(rand.New(rand.NewPCG(seed, 6)), anyFaults, anyFaults, anyFaults, oneAddress, bearableFaults)
}

// drawRounds draws rounds with as many faults in all.
func (c *cluster) drawRounds(seed uint64, n int) (rounds [][]fault) {
	draw := rand.New(rand.NewPCG(seed, 5))
	for n > 0 {
		var round []fault
		size := pick(draw, 1, 1, 2, 2, 3)
		if c.theme == bearableFaults {
			size = 1
		}
		for range min(n, size) {
			f := drawFault(draw, len(c.hosts), len(c.addrs))
			for !f.suits(c.theme) {
				f = drawFault(draw, len(c.hosts), len(c.addrs))
			}
			switch {
			case c.theme == bearableFaults:
				f.lasts = min(f.lasts, f.kind.bearable(&c.base))
			case c.theme == oneAddress && len(round) > 0:
				f.addr = round[0].addr
			}
			if fits(f, round) {
				round = append(round, f)
				n--
			}
		}
		rounds = append(rounds, round)
	}
	return rounds
}

// suits reports whether a fault may be in a cluster with that theme.
func (f fault) suits(t theme) bool {
	switch t {
	case oneAddress:
		return f.kind.address
	case bearableFaults:
		return f.kind.bearable != nil
	}
	return true
}

func drawFault(draw *rand.Rand, hosts, addrs int) fault {
	k := drawKind(draw)
	f := fault{kind: k, host: draw.IntN(hosts), addr: draw.IntN(addrs), draw: draw.Uint64() % 1000}
	f.peer = (f.host + 1 + draw.IntN(hosts-1)) % hosts
	f.at = time.Duration(draw.Int64N(int64(pick(draw, 10*time.Millisecond, 300*time.Millisecond, 3*time.Second))))
	// Many are short, a few are long.
	span := float64(k.longest - k.shortest)
	f.lasts = k.shortest + time.Duration(span*draw.Float64()*draw.Float64()*draw.Float64())
	if len(k.lengths) > 0 {
		f.lasts = pick(draw, k.lengths...)
	}
	return f
}

func drawKind(draw *rand.Rand) *kind {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	n := draw.IntN(total)
	for i := range kinds {
		if n -= kinds[i].weight; n < 0 {
			return &kinds[i]
		}
	}
	panic("unreachable")
}

// fits reports whether a fault can be in a round: no kind twice at the same host, and
// a machine stands still, or crashes, once.
func fits(f fault, round []fault) bool {
	for _, o := range round {
		if o.kind == f.kind || o.kind.machine && f.kind.machine && o.host == f.host {
			return false
		}
	}
	return true
}

// Times that faults of some kinds may last without any address moving.

func forEver(*config.Config) time.Duration { return time.Hour }

// shorterThanCheck is for what keeps a process or its agent from refreshing the check,
// which was refreshed a third of its TTL before, at most.
func shorterThanCheck(c *config.Config) time.Duration {
	if c.Consul.CheckTTL == 0 {
		return sec
	}
	return c.Consul.CheckTTL*2/3 - 300*ms
}

// shorterThanRestart is for an agent, which takes a moment to answer after its start.
func shorterThanRestart(c *config.Config) time.Duration { return shorterThanCheck(c) - 600*ms }

// shorterThanLifetime is for what keeps an address from being refreshed, which was
// refreshed a second before, at most. Lifetimes are whole seconds.
func shorterThanLifetime(c *config.Config) time.Duration { return c.VIPs[0].DeadMan - 2200*ms }

// shorterThanSession is for what keeps a session from being renewed, or the keys from
// being read.
func shorterThanSession(*config.Config) time.Duration { return 1500 * ms }

// shorterThanDebounce is for a carrier.
func shorterThanDebounce(c *config.Config) time.Duration { return min(400*ms, shorterThanDead(c)) }

// shorterThanDead is for a host of which others hear nothing, or not enough. Half of
// the misses are left for frames that get lost by chance.
func shorterThanDead(c *config.Config) time.Duration {
	shortest := forEver(c)
	for _, v := range c.VIPs {
		if v.HostCheck.Misses > 0 {
			shortest = min(shortest, v.HostCheck.Interval*time.Duration(v.HostCheck.Misses/2))
		}
	}
	return shortest
}

// kinds are all kinds of faults. It is set by init, because their functions use it.
var kinds []kind

func init() {
	kinds = append(kinds, processFaults...)
	kinds = append(kinds, networkFaults...)
	kinds = append(kinds, silenceFaults...)
	kinds = append(kinds, kernelFaults...)
	for _, k := range consulFaults {
		k.late = true
		kinds = append(kinds, k)
	}
	kinds = append(kinds, operatorFaults...)
}

// leaveOut removes the kinds with a matching name. The same seed then draws others.
func leaveOut(names *regexp.Regexp) {
	kinds = slices.DeleteFunc(kinds, func(k kind) bool { return names.MatchString(k.name) })
}

// keepOnly removes the kinds without a matching name. Some must be left for each theme.
func keepOnly(names *regexp.Regexp) {
	kinds = slices.DeleteFunc(kinds, func(k kind) bool { return !names.MatchString(k.name) })
}

const (
	ms  = time.Millisecond
	sec = time.Second
)
