package announcer

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Witnesses are hosts whose answers prove that other stations hear this one. Then the
// silence of another host means that it is dead, or that it is cut off.
type Witnesses struct {
	Gateway Host   // zero: none. Once it has answered on a Wire, it alone counts there
	Others  []Host // they count as long as the gateway has never answered
}

// None reports whether there is nobody to ask.
func (w Witnesses) None() bool { return !w.Gateway.Addr.IsValid() && len(w.Others) == 0 }

// witnesses are the witnesses of one caller, which owns them.
type witnesses struct {
	wire    *Wire
	gateway *neighbor // nil: none
	others  []*neighbor
	next    int       // of the others that count, to be asked
	asked   time.Time // the last of the others
	exclude func(net.HardwareAddr) bool
}

// newWitnesses returns the witnesses of a watched host: never the host itself, and
// nobody as long as exclude is true of its MAC. They are asked from source; without one
// there are none.
func (w *Wire) newWitnesses(ws Witnesses, source netip.Addr, watched Host, exclude func(net.HardwareAddr) bool) *witnesses {
	r := &witnesses{wire: w, exclude: exclude}
	usable := func(h Host) bool {
		addr := h.Addr.Unmap()
		return w.family.has(addr) && addr != watched.Addr.Unmap()
	}
	if !w.family.has(source) {
		return r
	}
	if usable(ws.Gateway) {
		r.gateway = w.neighbors.of(ws.Gateway, source)
	}
	for _, h := range ws.Others {
		if usable(h) {
			r.others = append(r.others, w.neighbors.of(h, source))
		}
	}
	return r
}

// gatewayCounts reports whether the gateway is the only witness, because it has
// answered, and not as one of the excluded MACs.
func (r *witnesses) gatewayCounts() bool {
	if r.gateway == nil {
		return false
	}
	mac := r.wire.neighbors.lastMAC(r.gateway.host.Addr)
	return mac != nil && !r.exclude(mac)
}

// countingOthers returns the others without those that are excluded now: a witness may
// claim the address itself.
func (r *witnesses) countingOthers() (counting []*neighbor) {
	for _, n := range r.others {
		if !slices.ContainsFunc(n.host.MACs, r.exclude) && !r.exclude(r.wire.neighbors.lastMAC(n.host.Addr)) {
			counting = append(counting, n)
		}
	}
	return counting
}

// exist reports whether there is a witness that has to answer.
func (r *witnesses) exist() bool { return r.gatewayCounts() || len(r.countingOthers()) > 0 }

// answered reports whether a witness has answered since t.
func (r *witnesses) answered(since time.Time) bool {
	if r.gateway != nil && r.answeredBy(r.gateway, since) {
		return true
	}
	if r.gatewayCounts() {
		return false
	}
	for _, n := range r.others {
		if r.answeredBy(n, since) {
			return true
		}
	}
	return false
}

func (r *witnesses) answeredBy(n *neighbor, since time.Time) bool {
	at, mac := n.lastAnswer()
	return !at.Before(since) && !r.exclude(mac)
}

// ask sends echoes to the witnesses that have not answered since t, unless another
// caller waits for their answers already. It returns only ErrClosed or the cause of
// ctx: the silence of a witness tells that a frame was not sent.
func (r *witnesses) ask(ctx context.Context, since time.Time) error {
	if r.answered(since) {
		return nil
	}
	var ask []*neighbor
	if r.gateway != nil {
		ask = append(ask, r.gateway)
	}
	if others := r.countingOthers(); len(others) > 0 && !r.gatewayCounts() {
		ask = append(ask, r.nextOther(others))
	}
	for _, n := range ask {
		if n.waiting() {
			continue
		}
		if _, err := r.wire.echo(ctx, n, urgentOrdinal); err != nil && !notAsked(err) {
			return err
		}
	}
	return nil
}

// nextOther returns the one of others to ask: the same as before as long as it answers.
func (r *witnesses) nextOther(others []*neighbor) *neighbor {
	n := others[r.next%len(others)]
	if at, _ := n.lastAnswer(); !r.asked.IsZero() && at.Before(r.asked) {
		r.next++
		n = others[r.next%len(others)]
	}
	r.asked = time.Now()
	return n
}

// longestPause is the longest time between two requests of Meet.
const longestPause = time.Minute

// Meet asks a host until it has answered once, first after milliseconds and then ever more
// rarely. The silence of a gateway that has never answered says nothing: there may be none.
// After Meet it says that this host is not heard. The error is ErrClosed or the cause of
// ctx; it wraps ErrUnsupportedFamily for an address of another family.
func (w *Wire) Meet(ctx context.Context, source, host netip.Addr) error {
	host, err := w.supported(host)
	if err != nil {
		return err
	}
	n := w.neighbors.of(Host{Addr: host}, source)
	for pause := answerWindow; w.neighbors.lastMAC(host) == nil; pause = min(2*pause, longestPause) {
		if _, err := w.echo(ctx, n, urgentOrdinal); err != nil && !notAsked(err) {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

// askedTimes is how often Witnessed asks, and mostAsked how many hosts.
const (
	askedTimes = 5
	mostAsked  = 4
)

// Witnessed reports whether this host hears any other station. It asks the witnesses,
// and waits 50 ms at most. Unlike in a proof, every station counts, because nobody's
// silence is to be judged.
func (w *Wire) Witnessed(ctx context.Context, source netip.Addr, ws Witnesses) bool {
	began := time.Now()
	hosts := append([]Host{ws.Gateway}, ws.Others...)
	for range askedTimes {
		for _, h := range hosts[:min(len(hosts), mostAsked)] {
			if !w.family.has(h.Addr) || !w.family.has(source) {
				continue
			}
			if _, err := w.echo(ctx, w.neighbors.of(h, source), urgentOrdinal); err != nil && !notAsked(err) {
				return false
			}
		}
		select {
		case <-time.After(answerWindow):
		case <-ctx.Done():
			return false
		}
		if w.LastHeard().After(began) {
			return true
		}
	}
	return false
}
