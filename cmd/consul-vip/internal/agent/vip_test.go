package agent

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

func TestRunContendsAgain(t *testing.T) {
	tests := map[string]struct {
		err    error
		onLoss config.OnLoss
		again  bool
	}{
		"lock lost, exit":       {lease.ErrLockLost, config.LossExit, false},
		"lock lost, contend":    {lease.ErrLockLost, config.LossContend, true},
		"session lost, contend": {lease.ErrSessionLost, config.LossContend, false},
		"carrier lost":          {errCarrier, config.LossExit, true},
		"address lost, exit":    {ErrAddressLost, config.LossExit, false},
		"address lost, contend": {ErrAddressLost, config.LossContend, true},
		"handed over":           {lease.ErrHandedOver, config.LossExit, true},
		"given up":              {lease.ErrReleased, config.LossExit, true},
		"conflict, contend":     {&ConflictError{}, config.LossContend, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(func(c *config.VIP) { c.OnLoss = test.onLoss })
				locks := &scriptedLocks{results: []error{test.err}}
				w.vip.locks = locks
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() { ended <- w.vip.run(ctx) }()
				synctest.Wait()
				if test.again {
					assert.Equal(t, 2, locks.held)
					cancel()
					require.NoError(t, <-ended)
					return
				}
				cancel()
				require.ErrorIs(t, <-ended, test.err)
				assert.Equal(t, 1, locks.held)
			})
		})
	}
}

func TestRunHeedsOnLossAsItIsByThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		locks := &lateLocks{losing: make(chan struct{})}
		w.vip.locks = locks
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- w.vip.run(ctx) }()
		synctest.Wait()
		w.reconfigure(func(c *config.VIP) { c.OnLoss = config.LossContend })
		close(locks.losing)
		synctest.Wait()
		assert.Empty(t, ended)
		cancel()
		require.NoError(t, <-ended)
	})
}

// scriptedLocks returns one result after the other, then waits for ctx.
type scriptedLocks struct {
	results []error
	held    int
}

func (l *scriptedLocks) Hold(ctx context.Context, _ lease.Lock, _ func(context.Context, *lease.Held) error) error {
	l.held++
	if len(l.results) == 0 {
		<-ctx.Done()
		return nil
	}
	err := l.results[0]
	l.results = l.results[1:]
	return err
}

func (l *scriptedLocks) Update(lease.Lock) bool { return true }
