package announcer

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A Query asks which stations have an address.
type Query struct {
	Addr   netip.Addr
	Source netip.Addr // an address of this host on the segment; may be the zero Addr

	Tries  int           // how often everybody is asked, more than 0
	Window time.Duration // how long an answer to each question may take, more than 0
}

// An Answer is what a station said to a Query.
type Answer struct {
	MAC net.HardwareAddr

	// Delay is the shortest time from a question to an answer.
	Delay time.Duration

	// Direct: the station has also answered when it alone was asked. A switch that
	// suppresses ARP, and a proxy, answer questions to everybody for others.
	Direct bool
}

// WhoHas probes for an address and returns the other stations that have it, ordered by
// their first answers. It asks everybody q.Tries times, and then each station that has
// answered by itself, which takes one more window. This host does not answer.
//
// The error wraps ErrNotSent if no frame could be sent: whether anybody has the address is
// then unknown. Else it wraps ErrUnsupportedFamily, or is ErrClosed or the cause of ctx.
func (w *Wire) WhoHas(ctx context.Context, q Query) ([]Answer, error) {
	addr, err := w.supported(q.Addr)
	switch {
	case err != nil:
		return nil, fmt.Errorf("who has the address: %w", err)
	case q.Tries <= 0, q.Window <= 0:
		return nil, fmt.Errorf("who has %s: %d tries with a window of %s", addr, q.Tries, q.Window)
	}
	a := &asking{wire: w, addr: addr, source: q.Source, asked: map[mac48]time.Time{}}
	l := w.listenAll(addr, a.record)
	defer l.Close()
	for range q.Tries {
		if err := a.ask(ctx, broadcast); err != nil {
			return nil, err
		}
		if err := sleep(ctx, q.Window); err != nil {
			return nil, err
		}
	}
	found := a.found()
	for _, f := range found {
		if err := a.ask(ctx, f.MAC); err != nil {
			return nil, err
		}
	}
	if len(found) > 0 {
		if err := sleep(ctx, q.Window); err != nil {
			return nil, err
		}
	}
	return a.found(), nil
}

// asking is one call of WhoHas.
type asking struct {
	wire   *Wire
	addr   netip.Addr
	source netip.Addr

	mu      sync.Mutex          // guards all following fields
	asked   map[mac48]time.Time // when each station was asked last, and everybody
	answers []Answer
}

// ask asks a station, or everybody.
func (a *asking) ask(ctx context.Context, to net.HardwareAddr) error {
	return a.wire.transmit(ctx, 0, func(own net.HardwareAddr) Outbound {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked[mac48(to)] = time.Now()
		return a.wire.protocol.probe(to, own, a.source, a.addr)
	})
}

// record is called by the reader goroutine.
func (a *asking) record(c Claim) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, direct := a.asked[mac48(c.MAC)]
	if !direct {
		at = a.asked[mac48(broadcast)]
	}
	if c.Received.Before(at) {
		return // to an earlier question; one more was sent meanwhile
	}
	delay := c.Received.Sub(at)
	for i, known := range a.answers {
		if bytes.Equal(known.MAC, c.MAC) {
			a.answers[i].Delay = min(known.Delay, delay)
			a.answers[i].Direct = known.Direct || direct
			return
		}
	}
	a.answers = append(a.answers, Answer{MAC: c.MAC, Delay: delay, Direct: direct})
}

// found returns the answers until now.
func (a *asking) found() []Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.answers)
}
