package agent

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

// One logger shows the state that the VIP is in when a line is written, also to
// code that got the logger earlier.
func TestLoggerShowsTheCurrentState(t *testing.T) {
	for format, want := range map[string]string{
		"text": "[INFO]  state changed: state=standby vip=10.77.0.100 from=\"\" reason=started\n" +
			"[INFO]  early: state=standby vip=10.77.0.100\n" +
			"[INFO]  state changed: state=acquired vip=10.77.0.100 from=standby reason=\"lock acquired\" record=held\n" +
			"[INFO]  early: state=acquired vip=10.77.0.100\n",
		"JSON": `{"@level":"info","@message":"state changed","from":"","reason":"started","state":"standby","vip":"10.77.0.100"}` + "\n" +
			`{"@level":"info","@message":"early","state":"standby","vip":"10.77.0.100"}` + "\n" +
			`{"@level":"info","@message":"state changed","from":"standby","reason":"lock acquired","record":"held","state":"acquired","vip":"10.77.0.100"}` + "\n" +
			`{"@level":"info","@message":"early","state":"acquired","vip":"10.77.0.100"}` + "\n",
	} {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			log := hclog.New(&hclog.LoggerOptions{Output: &out, JSONFormat: format == "JSON", DisableTime: true})
			v := newVIP(*newFakeVIP(nil).vip.cfg(), nil, nil, nil, lease.Owner{}, log)
			early := v.log
			v.enter(stateStandby, "started")
			early.Info("early")
			v.enter(stateAcquired, "lock acquired", "record", "held")
			early.Info("early")
			require.Equal(t, want, out.String())
		})
	}
}

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
				f := newFakeVIP(func(c *config.VIP) { c.OnLoss = test.onLoss })
				locks := &scriptedLocks{results: []error{test.err}}
				f.vip.locks = locks
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() { ended <- f.vip.run(ctx) }()
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
		f := newFakeVIP(nil)
		locks := &lateLocks{losing: make(chan struct{})}
		f.vip.locks = locks
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- f.vip.run(ctx) }()
		synctest.Wait()
		f.reconfigure(func(c *config.VIP) { c.OnLoss = config.LossContend })
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
