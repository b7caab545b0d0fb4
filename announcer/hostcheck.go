package announcer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// checkRate is the number of frames per second of all host checks of a Wire together.
// With more checks their intervals get longer.
const checkRate = 1000

// HostCheckConfig says which host to check, and how.
type HostCheckConfig struct {
	Host   Host       // with Addr and at least one MAC
	Source netip.Addr // an address of this host on the segment, from which it is asked

	Interval time.Duration // between two requests, more than 0
	Misses   int           // intervals in a row without an answer after which the host is dead, more than 0

	// Canary returns one of the floating addresses of the host, or the zero Canary. From
	// the first miss on the host is also probed for it: a host that no longer has its
	// own address may still serve. It must not block. Nil: there is none.
	Canary func() Canary

	// Others returns the Wires of other families on the segment. A frame of the host on one
	// of them shows as well that it lives. It must not block. Nil: there are none.
	Others func() []*Wire

	// Witnesses returns the witnesses. An interval counts as missed only if one of them
	// has answered in it. Hosts with a MAC of Host do not count. It must not block.
	Witnesses func() Witnesses

	// Missed is set to the number of intervals in a row that were missed. Nil: nobody wants to
	// know.
	Missed *atomic.Int64
}

// A Canary is a floating address of a host that is checked.
type Canary struct {
	Addr   netip.Addr // the zero Addr: there is none
	Source netip.Addr // an address of this host from which to ask for it; may be the zero Addr
	Wire   *Wire      // of its family, on the same interface; nil: the one that checks
}

func (c HostCheckConfig) check(f Family) error {
	switch {
	case !f.has(c.Host.Addr), !f.has(c.Source):
		return fmt.Errorf("check of %s from %s: %w", c.Host.Addr, c.Source, ErrUnsupportedFamily)
	case len(c.Host.MACs) == 0, c.Interval <= 0, c.Misses <= 0, c.Witnesses == nil:
		return fmt.Errorf("check of %s: no MAC, interval, misses or witnesses", c.Host.Addr)
	}
	for _, mac := range c.Host.MACs {
		if !IsStation(mac) {
			return fmt.Errorf("check of %s: %s is not the MAC of one station", c.Host.Addr, mac)
		}
	}
	return nil
}

// HostState is what a host check knows of its host.
type HostState struct {
	Heard int       // intervals with an answer since the check began; never decreases
	Dead  bool      // the last intervals were missed, as many as HostCheckConfig.Misses
	Since time.Time // when the host was heard last, or the check began
}

// CheckHost asks a host once per interval for its own address, until ctx ends (nil) or
// the Wire is closed (ErrClosed). It calls changed when the host is dead, when it is
// heard again, and when it has been heard c.Misses times, before which it cannot be
// dead. changed is called in the goroutine of the caller and must not block.
//
// An interval is missed if nothing was received from the host in it but a witness has
// answered. It is void if no witness has answered either, if a timer of this process was late by a
// quarter of the interval, if a frame was not sent, or if frames wait unread. Void
// intervals neither count nor break a row.
//
// All checks of a Wire share 1,000 frames per second.
func (w *Wire) CheckHost(ctx context.Context, c HostCheckConfig, changed func(HostState)) error {
	if err := c.check(w.family); err != nil {
		return err
	}
	h := &hostCheck{
		wire: w, config: c, changed: changed, answers: latest.NewWake(),
		neighbor: w.neighbors.of(c.Host, c.Source), witnesses: &witnesses{}, canary: Canary{Wire: w}, state: HostState{Since: time.Now()},
	}
	defer h.neighbor.watch(h.answers)()
	defer func() { h.follow(Canary{Wire: w}) }()
	defer h.weigh(0)
	for {
		err := h.once(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
	}
}

// hostCheck is one call of CheckHost, whose goroutine owns it.
type hostCheck struct {
	wire      *Wire
	config    HostCheckConfig
	changed   func(HostState)
	neighbor  *neighbor
	witnesses *witnesses
	answers   latest.Wake // set by the reader goroutine after each answer

	state    HostState
	missed   int       // intervals in a row
	weight   int       // frames per interval, as Wire.checks counts them
	canary   Canary    // its Wire is not nil
	listener *Listener // to the canary; nil: none

	mu      sync.Mutex // guards all following fields
	claimed time.Time  // the host's last claim of the canary was received
}

// interval is one interval of a host check.
type interval struct {
	began  time.Time
	length time.Duration
	heard  bool // the host has answered
	void   bool // it cannot be a miss
}

// once asks the host once, and waits until the interval is over. The error is
// ErrClosed or the cause of ctx.
func (h *hostCheck) once(ctx context.Context) error {
	iv := h.begin()
	_, err := h.wire.echo(ctx, h.neighbor, urgentOrdinal)
	if err != nil && !notAsked(err) {
		return err
	}
	iv.void = err != nil
	if err := h.await(ctx, iv, iv.length/2); err != nil {
		return err
	}
	if !iv.heard {
		if err := h.askFurther(ctx, iv); err != nil {
			return err
		}
	}
	if err := h.await(ctx, iv, iv.length); err != nil {
		return err
	}
	if h.backlogged() { // as a rule, one frame is just being read
		if err := h.await(ctx, iv, iv.length+iv.length/8); err != nil {
			return err
		}
	}
	backlogged := h.backlogged()
	h.hear(iv) // after a pause of the process, an answer and the end are seen at once
	switch {
	case iv.heard:
		h.countHeard()
	case !iv.void && !backlogged && h.witnesses.answered(iv.began):
		h.countMissed()
	}
	return nil
}

// backlogged reports whether an answer of the host may wait unread.
func (h *hostCheck) backlogged() bool {
	return !h.wire.sock.Idle() || !h.canary.Wire.sock.Idle()
}

// begin begins an interval. It is longer than configured if there are many checks.
func (h *hostCheck) begin() *interval {
	frames := 1
	if h.missed > 0 {
		frames = 3 // also the canary and a witness
	}
	h.weigh(frames)
	busy := time.Duration(h.wire.checks.Load()) * time.Second / checkRate
	return &interval{began: time.Now(), length: max(h.config.Interval, busy)}
}

// weigh counts how many frames per interval this check sends.
func (h *hostCheck) weigh(frames int) {
	h.wire.checks.Add(int64(frames - h.weight))
	h.weight = frames
}

// await waits until the interval has lasted for d, and takes note of every answer.
func (h *hostCheck) await(ctx context.Context, iv *interval, d time.Duration) error {
	end := iv.began.Add(d)
	t := time.NewTimer(time.Until(end))
	defer t.Stop()
	for {
		select {
		case <-h.answers:
			h.hear(iv)
		case <-t.C:
			iv.void = iv.void || time.Since(end) >= iv.length/4
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// askFurther asks a witness and, from the first miss on, for the canary.
func (h *hostCheck) askFurther(ctx context.Context, iv *interval) error {
	ws := h.wire.newWitnesses(h.config.Witnesses(), h.config.Source, h.config.Host, h.config.Host.Has)
	ws.next, ws.asked = h.witnesses.next, h.witnesses.asked
	h.witnesses = ws
	if err := ws.ask(ctx, iv.began); err != nil {
		return err
	}
	if h.missed == 0 || h.config.Canary == nil {
		return nil
	}
	canary := h.config.Canary()
	if canary.Addr = canary.Addr.Unmap(); canary.Wire == nil {
		canary.Wire = h.wire
	}
	h.follow(canary)
	if h.listener == nil {
		return nil
	}
	err := canary.Wire.transmit(ctx, 0, func(own net.HardwareAddr) Outbound {
		return canary.Wire.protocol.probe(h.config.Host.MACs[0], own, canary.Source, canary.Addr)
	})
	if errors.Is(err, ErrNotSent) {
		iv.void = true
		return nil
	}
	return err
}

// follow listens for the host's claims of the canary.
func (h *hostCheck) follow(canary Canary) {
	if canary == h.canary {
		return
	}
	if h.listener != nil {
		h.listener.Close()
		h.listener = nil
	}
	if h.canary = canary; canary.Wire.family.has(canary.Addr) {
		h.listener = canary.Wire.listenAll(canary.Addr, h.recordClaim)
	}
}

// recordClaim is called by the reader goroutine.
func (h *hostCheck) recordClaim(c Claim) {
	if !h.config.Host.Has(c.MAC) {
		return
	}
	h.mu.Lock()
	h.claimed = c.Received
	h.mu.Unlock()
	h.answers.Set()
}

// hear takes note of an answer that was received since the last one. Any other frame
// shows as well that the host lives: it may have no address of its own at the moment, or
// not answer for it.
func (h *hostCheck) hear(iv *interval) {
	last, _ := h.neighbor.lastAnswer()
	for _, w := range h.wires() {
		if other := w.heardFrom(h.config.Host.MACs); other.After(last) {
			last = other
		}
	}
	h.mu.Lock()
	if h.claimed.After(last) {
		last = h.claimed
	}
	h.mu.Unlock()
	if !last.After(h.state.Since) {
		return
	}
	h.state.Since, iv.heard = last, true
	h.setMissed(0)
	if h.state.Dead {
		h.state.Dead = false
		h.changed(h.state)
	}
}

// wires returns the Wire of the check, and the others.
func (h *hostCheck) wires() []*Wire {
	if h.config.Others == nil {
		return []*Wire{h.wire}
	}
	return append(h.config.Others(), h.wire)
}

// countHeard counts an interval with an answer.
func (h *hostCheck) countHeard() {
	h.state.Heard++
	if h.state.Heard == h.config.Misses {
		h.changed(h.state)
	}
}

// countMissed counts a missed interval.
func (h *hostCheck) countMissed() {
	h.setMissed(h.missed + 1)
	if !h.state.Dead && h.missed >= h.config.Misses && h.state.Heard >= h.config.Misses {
		h.state.Dead = true
		h.changed(h.state)
	}
}

// setMissed sets the number of intervals in a row that were missed.
func (h *hostCheck) setMissed(n int) {
	h.missed = n
	if h.config.Missed != nil {
		h.config.Missed.Store(int64(n))
	}
}
