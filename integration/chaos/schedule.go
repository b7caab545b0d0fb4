package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	Stop             Kind = "stop"              // SIGTERM, restarted
	Interrupt        Kind = "interrupt"         // SIGINT, restarted
	Crash            Kind = "crash"             // SIGKILL, restarted
	Freeze           Kind = "freeze"            // SIGSTOP, then SIGCONT
	HostDeath        Kind = "host death"        // all its processes killed and all cables out, then back
	Carrier          Kind = "carrier flap"      // the cable of the addresses out, then in
	HostStall        Kind = "host stall"        // all its processes and its frames stop, then go on
	SwitchStall      Kind = "switch stall"      // the switch of the addresses passes no frame, but keeps all carriers
	FrameLoss        Kind = "frame loss"        // the switch of the addresses loses 5 % of all frames
	LinkDown         Kind = "link down"         // the same for longer, while Consul stays reachable
	CutOff           Kind = "cut-off"           // a firewall between the host and Consul on all other machines
	AgentRestart     Kind = "agent restart"     // the host's Consul agent killed and started
	AgentFreeze      Kind = "agent freeze"      // SIGSTOP, then SIGCONT, to the host's Consul agent
	LeaderCrash      Kind = "leader crash"      // Consul's leader killed and started
	LeaderDeath      Kind = "leader death"      // the same, and its cable out: no connection to it is closed
	ConsulRestart    Kind = "consul restart"    // all Consul servers killed and started
	AddressDeleted   Kind = "address deleted"   // by "ip address delete"
	SessionDestroyed Kind = "session destroyed" // through Consul's API
	KeyDeleted       Kind = "key deleted"       // the lock's
	KeyOverwritten   Kind = "key overwritten"   // the lock's, by a plain put
	ConsulLock       Kind = "consul lock"       // it acquires the lock for two seconds
	ForeignClaim     Kind = "foreign claim"     // a frame by which a stranger claims an address
	ForeignHost      Kind = "foreign host"      // a machine that really has the address, for a time
	Pin              Kind = "pin"               // set, then removed
	Drain            Kind = "drain"             // requested by its key, then ended
	Release          Kind = "release"           // requested by its key
	Reload           Kind = "reload"            // SIGHUP without the address, then with it again
	Priority         Kind = "priority"          // SIGUSR1 or SIGUSR2, then the other
)

// target is what a kind of fault hits.
type target int

const (
	aHost target = iota
	aVIP
	consul
	theSwitch
)

// traits are the properties of a kind.
type traits struct {
	target target
	// shortest and longest limit how long the fault lasts.
	shortest, longest time.Duration
	// lasts are the only times that it may last, if there are some.
	lasts []time.Duration
	// consul means that Consul may take a while to recover.
	consul bool
	// world is the only one that has the kind; "" means all.
	world lab.World
}

var kinds = map[Kind]traits{
	Stop:      {target: aHost},
	Interrupt: {target: aHost},
	Crash:     {target: aHost},
	Freeze:    {target: aHost, shortest: 500 * time.Millisecond, longest: 10 * time.Second},
	HostDeath: {target: aHost, shortest: time.Second, longest: 15 * time.Second, consul: true},
	Carrier:   {target: aHost, shortest: 100 * time.Millisecond, longest: 3 * time.Second, consul: true},
	HostStall: {target: aHost, shortest: 150 * time.Millisecond, longest: 2 * time.Second, consul: true,
		lasts: []time.Duration{150 * time.Millisecond, 400 * time.Millisecond, 2 * time.Second}},
	SwitchStall:      {target: theSwitch, shortest: 500 * time.Millisecond, longest: 3 * time.Second, consul: true},
	FrameLoss:        {target: theSwitch, shortest: time.Second, longest: 10 * time.Second, consul: true},
	LinkDown:         {target: aHost, shortest: time.Second, longest: 15 * time.Second, world: lab.Clients},
	CutOff:           {target: aHost, shortest: time.Second, longest: 15 * time.Second, consul: true},
	AgentRestart:     {target: aHost, shortest: 0, longest: 8 * time.Second, consul: true},
	AgentFreeze:      {target: aHost, shortest: 500 * time.Millisecond, longest: 8 * time.Second, consul: true},
	LeaderDeath:      {target: consul, shortest: time.Second, longest: 15 * time.Second, consul: true, world: lab.Clients},
	LeaderCrash:      {target: consul, shortest: 500 * time.Millisecond, longest: 8 * time.Second, consul: true},
	ConsulRestart:    {target: consul, shortest: 0, longest: 3 * time.Second, consul: true},
	AddressDeleted:   {target: aVIP},
	SessionDestroyed: {target: aHost},
	KeyDeleted:       {target: aVIP},
	KeyOverwritten:   {target: aVIP},
	ConsulLock:       {target: aVIP, shortest: 2 * time.Second, longest: 2 * time.Second},
	ForeignClaim:     {target: aVIP},
	ForeignHost:      {target: aVIP, shortest: 500 * time.Millisecond, longest: 20 * time.Second},
	Pin:              {target: aVIP, shortest: time.Second, longest: 8 * time.Second},
	Drain:            {target: aHost, shortest: time.Second, longest: 8 * time.Second},
	Release:          {target: aVIP, shortest: 2 * time.Second, longest: 2 * time.Second},
	Reload:           {target: aHost, shortest: 10 * time.Millisecond, longest: 4 * time.Second},
	Priority:         {target: aHost, shortest: time.Second, longest: 6 * time.Second},
}

// kindsOf returns the kinds of faults of a world, in order.
func kindsOf(w lab.World) []Kind {
	var found []Kind
	for k, t := range kinds {
		if t.world == "" || t.world == w {
			found = append(found, k)
		}
	}
	slices.Sort(found) // a map has no order
	return found
}

// Fault is one fault.
type Fault struct {
	Number int // from 1
	Kind   Kind
	VIP    int // number of the address, if the kind needs one
	Host   int // number of the host, if the kind needs one
	// Owner hits the host that owns the address at that time, instead of Host.
	Owner bool
	// After is the time from the group's beginning to the fault's beginning.
	After time.Duration
	// Lasts is the time from the fault's beginning until it is undone.
	Lasts time.Duration
	// Restart is how long the scheduler waits before it starts a process again.
	Restart time.Duration
	// Other selects the second of two variants: a forged reply instead of a request, a
	// lower priority instead of a higher one.
	Other bool
}

// last waits until the fault is to be undone, or until ctx ends.
func (f Fault) last(ctx context.Context) { _ = lab.Sleep(ctx, f.Lasts) }

// String describes the fault and its target.
func (f Fault) String() string {
	s := fmt.Sprintf("%d: %s", f.Number, f.Kind)
	switch t := kinds[f.Kind].target; {
	case t == aHost && f.Owner:
		s += " of the host of " + vipOf(f.VIP).String()
	case t == aHost:
		s += " of h" + fmt.Sprint(f.Host+1)
	case t == aVIP:
		s += " of " + vipOf(f.VIP).String()
	}
	if f.Kind == Pin {
		s += " to h" + fmt.Sprint(f.Host+1)
	}
	if f.Lasts > 0 {
		s += " for " + f.Lasts.String()
	}
	return s
}

// Group is one fault, or two that overlap.
type Group struct {
	Pause  time.Duration // before the group
	Faults []Fault
	// Settle means to wait afterwards until every address has an owner.
	Settle bool
}

// String describes the faults of the group.
func (g Group) String() string {
	text := g.Faults[0].String()
	if len(g.Faults) > 1 {
		text += fmt.Sprintf(", and %s (%v later)", g.Faults[1], g.Faults[1].After)
	}
	return text
}

// Schedule returns groups with n faults in all. The result depends only on the
// arguments.
func Schedule(w lab.World, seed uint64, n int) []Group {
	s := &scheduler{world: w, r: rand.New(rand.NewPCG(seed, 0))}
	var groups []Group
	for s.number < n {
		g := Group{Pause: s.between(200*time.Millisecond, 5*time.Second), Faults: []Fault{s.fault()}}
		if s.number < n && s.r.IntN(2) == 0 {
			if second := s.fault(); compatible(g.Faults[0], second) {
				second.After = s.offset()
				if s.r.IntN(2) == 0 && second.Kind != ConsulLock && g.Faults[0].Kind != ConsulLock {
					second.VIP, second.Host = g.Faults[0].VIP, g.Faults[0].Host
				}
				g.Faults = append(g.Faults, second)
			} else {
				s.putBack(second)
			}
		}
		// Consul has to recover from its own faults before the next fault.
		g.Settle = s.r.IntN(3) > 0 || slices.ContainsFunc(g.Faults, func(f Fault) bool { return kinds[f.Kind].consul })
		groups = append(groups, g)
	}
	return groups
}

// compatible reports whether two faults may overlap. If "consul lock" cannot reach
// Consul when it ends, no other program gets the lock for 45 s: until its session ends,
// and for its lock-delay. There is only one foreign host.
func compatible(a, b Fault) bool {
	if a.Kind == ForeignHost && b.Kind == ForeignHost {
		return false
	}
	if b.Kind == ConsulLock {
		a, b = b, a
	}
	return a.Kind != ConsulLock || !kinds[b.Kind].consul && b.Kind != ConsulLock && a.VIP != b.VIP
}

// scheduler draws faults. It draws every kind once before it draws any again.
type scheduler struct {
	world  lab.World
	r      *rand.Rand
	number int
	bag    []Kind
}

func (s *scheduler) fault() Fault {
	if len(s.bag) == 0 {
		s.bag = kindsOf(s.world)
		s.r.Shuffle(len(s.bag), func(i, j int) { s.bag[i], s.bag[j] = s.bag[j], s.bag[i] })
	}
	k := s.bag[0]
	s.bag = s.bag[1:]
	s.number++
	t := kinds[k]
	return Fault{
		Number:  s.number,
		Kind:    k,
		VIP:     s.r.IntN(vips),
		Host:    s.r.IntN(hosts),
		Owner:   t.target == aHost && s.r.IntN(3) > 0,
		Lasts:   s.lasts(t),
		Restart: s.between(0, 2*time.Second),
		Other:   s.r.IntN(2) == 0,
	}
}

// putBack makes f the next fault to draw.
func (s *scheduler) putBack(f Fault) {
	s.bag = append([]Kind{f.Kind}, s.bag...)
	s.number--
}

// lasts draws how long a fault of a kind lasts.
func (s *scheduler) lasts(t traits) time.Duration {
	if len(t.lasts) > 0 {
		return t.lasts[s.r.IntN(len(t.lasts))]
	}
	return s.between(t.shortest, t.longest)
}

// between draws a time in full milliseconds, which are easy to read.
func (s *scheduler) between(shortest, longest time.Duration) time.Duration {
	return (shortest + time.Duration(s.r.Int64N(int64(longest-shortest)+1))).Truncate(time.Millisecond)
}

// offset draws how much later the second of two faults comes: 1 ms to 3 s, with every
// order of magnitude equally likely, because the moments in which a second fault is most
// harmful are short.
func (s *scheduler) offset() time.Duration {
	ms := math.Pow(10, s.r.Float64()*math.Log10(3000))
	return (time.Duration(ms*1000) * time.Microsecond).Round(100 * time.Microsecond)
}
