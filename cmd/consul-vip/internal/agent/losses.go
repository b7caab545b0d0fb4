package agent

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
)

// lossKey names a measurement: what the link to another member loses.
type lossKey struct {
	link     *link
	addr     netip.Addr // the host's own
	macs     string     // of the host, the one to ask first
	from     netip.Addr // our own
	interval time.Duration
}

// updateMeasured starts and ends measurements, as the latest State of the keys asks for.
// Every member may have to prove that it has let an address go. Those who do not want
// their hosts to be checked do not want these frames either.
func (a *agent) updateMeasured() {
	wanted := map[lossKey]bool{}
	for on, interval := range a.lossIntervals() {
		keys, _ := a.keeper.State()
		here, _ := on.link.state.Get()
		for _, h := range otherMembers(keys, here, on.family, "") {
			source := here.identity.Source(h.Addr)
			if source.IsValid() && len(h.MACs) > 0 {
				wanted[lossKey{on.link, h.Addr, strings.Join(texts(h.MACs), " "), source, interval}] = true
			}
		}
	}
	for key := range wanted {
		if a.measured[key] == nil {
			a.measured[key] = a.startMeasuring(key)
		}
	}
	for key, stop := range a.measured {
		if !wanted[key] {
			stop()
			delete(a.measured, key)
		}
	}
}

// linkFamily is a wire: that of a family on a link.
type linkFamily struct {
	link   *link
	family announcer.Family
}

// lossIntervals returns how often each wire asks another member: as often as the host
// check of its addresses that asks most often.
func (a *agent) lossIntervals() map[linkFamily]time.Duration {
	intervals := map[linkFamily]time.Duration{}
	for addr, s := range a.slots {
		cfg, on := s.vip.cfg(), linkFamily{s.vip.link, announcer.Of(addr)}
		if cfg.Takeover == config.TakeoverStrict || cfg.HostCheck.Misses == 0 {
			continue
		}
		if before, ok := intervals[on]; !ok || cfg.HostCheck.Interval < before {
			intervals[on] = cfg.HostCheck.Interval
		}
	}
	return intervals
}

// startMeasuring starts a measurement.
func (a *agent) startMeasuring(key lossKey) (stop context.CancelFunc) {
	ctx, stop := context.WithCancel(a.backgroundCtx)
	host := announcer.Host{Addr: key.addr, MACs: parseMACs(strings.Fields(key.macs))}
	a.runInBackground(ctx, func(ctx context.Context) error {
		err := key.link.wire.MeasureLoss(ctx, key.from, host, key.interval)
		if errors.Is(err, announcer.ErrClosed) {
			return nil // the wire tells the loop itself
		}
		return err
	})
	return stop
}
