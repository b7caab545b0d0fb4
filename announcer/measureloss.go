package announcer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// enoughSamples in the last minute make a proof of four rounds on a link without loss.
	// With as many a host is asked rarer times more rarely.
	enoughSamples = 600
	rarer         = 4

	// lossRate is the number of frames per second of all loss measurements of a Wire
	// together. With more hosts each is asked more rarely.
	lossRate = 200

	// mostMissed is the number of answers missing in a row that count as lost. A host
	// that misses more is away, and is asked once per awayPause.
	mostMissed = 5
	awayPause  = time.Second
)

// MeasureLoss asks a host for its own address, from source, until ctx ends (nil) or the Wire
// is closed (ErrClosed). From the answers Prove knows how many frames the link to the host
// loses, and how many rounds it needs. The host is asked once per interval until that is
// known well, and then a quarter as often. It must have a MAC. The error wraps
// ErrUnsupportedFamily for an address of another family.
//
// All measurements of a Wire share 200 frames per second.
func (w *Wire) MeasureLoss(ctx context.Context, source netip.Addr, host Host, interval time.Duration) error {
	switch {
	case !w.family.has(source), !w.family.has(host.Addr):
		return fmt.Errorf("loss of the link to %s from %s: %w", host.Addr, source, ErrUnsupportedFamily)
	case len(host.MACs) == 0, interval <= 0:
		return fmt.Errorf("loss of the link to %s: no MAC or interval", host.Addr)
	}
	others := w.measured.Add(1) - 1
	defer w.measured.Add(-1)
	// Those that begin at the same time, as all do at the start, ask one after the other,
	// and not when a host check with the same interval asks.
	if err := sleep(ctx, interval/4+time.Duration(others)*time.Second/lossRate); err != nil {
		return nil
	}
	n, mac := w.neighbors.of(host, source), host.MACs[0]
	for missed := 0; ; {
		asked := time.Now()
		_, err := w.echo(ctx, n, 0)
		if err != nil && !notAsked(err) {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := sleep(ctx, w.lossPause(mac, interval, missed)); err != nil {
			return nil
		}
		switch last, _ := n.lastAnswer(); {
		case !last.Before(asked):
			missed = 0
			w.losses.add(mac, false, asked)
		case err != nil, !w.sock.Idle(): // not sent, or an answer may wait unread
		case missed < mostMissed:
			missed++
			w.losses.add(mac, true, asked)
		}
	}
}

// lossPause is how long to wait for an answer, and until the host is asked again.
func (w *Wire) lossPause(mac net.HardwareAddr, interval time.Duration, missed int) time.Duration {
	switch samples, _ := w.losses.count(mac, time.Now()); {
	case missed == mostMissed:
		interval = max(interval, awayPause)
	case samples >= enoughSamples:
		interval *= rarer
	}
	return max(interval, time.Duration(w.measured.Load())*time.Second/lossRate)
}
