package agent

import (
	"context"
	"sync"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/internal/latest"
)

// announcing is the goroutine that announces an address.
type announcing struct {
	cancel  context.CancelFunc
	restart latest.Wake // starts the schedule from its beginning
	done    sync.WaitGroup
}

// announce starts the goroutine that announces the address until stop is called or
// ctx ends.
func (a *active) announce(ctx context.Context) *announcing {
	ctx, cancel := context.WithCancel(ctx)
	n := &announcing{cancel: cancel, restart: latest.NewWake()}
	n.done.Go(func() {
		err := a.link.wire.Announce(ctx, announcer.Announcement{
			Addr:        a.cfg().Addr(),
			Schedule:    func() announcer.Schedule { return announcer.Schedule(a.cfg().Announce) },
			MayAnnounce: a.mayAnnounce,
		}, n.restart)
		if err != nil && ctx.Err() == nil {
			a.log.Error("announcing failed", "error", err)
		}
	})
	return n
}

// stop ends the goroutine. After it returns no more frames leave this host.
func (n *announcing) stop() {
	n.cancel()
	n.done.Wait()
}
