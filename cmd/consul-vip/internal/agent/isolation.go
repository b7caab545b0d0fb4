package agent

import (
	"context"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
)

// isolatedAfter is how long this host must have heard nobody on the wire to ask
// whether anybody hears it. Members in line for an address ask its owner many times a
// second.
const isolatedAfter = time.Second

// lastHeard is when a link had heard another station last, at a time.
type lastHeard struct {
	at   time.Time // zero: nobody
	asOf time.Time
}

// heardNobody reports whether no other station has been heard for a while. All
// addresses of the link ask every second, and the answer costs a look at all interfaces
// of this host: it serves for a quarter of a second. No lock is held meanwhile, as the
// kernel may be slow: then several look at once.
func (l *link) heardNobody() bool {
	now, last := time.Now(), l.heard.Load()
	if last == nil || now.Sub(last.asOf) >= isolatedAfter/4 {
		last = &lastHeard{at: l.wire.LastHeard(), asOf: now}
		l.heard.Store(last)
	}
	return time.Since(last.at) >= isolatedAfter
}

// checkIsolation unbinds the address if this host hears nobody on the wire and Consul
// is silent too. Another host may have found this one dead and have taken the address
// over, and both would answer for it as soon as the network is whole again. The lock
// is kept: if it is still ours when Consul answers, the address is bound again. A
// segment where nobody could answer proves nothing.
func (a *active) checkIsolation(ctx context.Context) (o outcome) {
	if a.address == nil || a.isolated != 0 || !a.link.heardNobody() {
		return outcome{}
	}
	keys, _ := a.locks.State()
	here, _ := a.link.state.Get()
	source, w := here.identity.Source(a.cfg().Addr()), witnesses(keys, here, announcer.Of(a.cfg().Addr()), "")
	if !source.IsValid() || w.None() {
		return outcome{}
	}
	if a.link.wire.Witnessed(ctx, source, w) || a.confirm(ctx, 0) == nil || ctx.Err() != nil {
		return outcome{}
	}
	a.isolated = a.Now()
	return a.drop("this host hears nobody on the wire, and Consul does not answer")
}

// stillIsolated reports whether Consul has not confirmed the lock since this host was
// found isolated. It asks Consul.
func (a *active) stillIsolated() bool {
	if a.isolated == 0 {
		return false
	}
	now, cancel := context.WithCancel(context.Background())
	cancel() // the answer is awaited elsewhere
	if a.Confirm(now, a.isolated) != nil {
		return true
	}
	a.isolated = 0
	return false
}
