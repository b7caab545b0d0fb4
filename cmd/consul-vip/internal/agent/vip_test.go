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

// A logger from an earlier state shows the current state.
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
			v := newVIP(*newFakeVIP(nil).vip.cfg(), nil, nil, nil, Owner{}, log)
			early := v.log
			v.enter(stateStandby, "started")
			early.Info("early")
			v.enter(stateAcquired, "lock acquired", "record", "held")
			early.Info("early")
			require.Equal(t, want, out.String())
		})
	}
}

func TestRunReturnsToStandby(t *testing.T) {
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
		"transferred":           {lease.ErrTransferred, config.LossExit, true},
		"released":              {lease.ErrReleased, config.LossExit, true},
		"conflict, contend":     {&ConflictError{}, config.LossContend, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(func(c *config.VIP) { c.OnLoss = test.onLoss })
				locks := &scriptedLocks{results: []error{test.err}}
				f.vip.locks = locks
				stop, _ := f.run()
				if test.again {
					assert.Equal(t, 2, locks.holds)
					require.NoError(t, stop())
					return
				}
				require.ErrorIs(t, stop(), test.err)
				assert.Equal(t, 1, locks.holds)
			})
		})
	}
}

func TestOnLossAsCurrentlyConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		locks := &lateLocks{lose: make(chan struct{})}
		f.vip.locks = locks
		stop, ended := f.run()
		f.reconfigure(func(c *config.VIP) { c.OnLoss = config.LossContend })
		close(locks.lose)
		synctest.Wait()
		assert.Empty(t, ended)
		require.NoError(t, stop())
	})
}

// scriptedLocks returns one result after the other from Hold, then waits for ctx.
type scriptedLocks struct {
	results []error
	holds   int
}

func (l *scriptedLocks) Hold(ctx context.Context, _ lease.Lock, _ func(context.Context, *lease.Held) error) error {
	l.holds++
	if len(l.results) == 0 {
		<-ctx.Done()
		return nil
	}
	err := l.results[0]
	l.results = l.results[1:]
	return err
}

func (l *scriptedLocks) Update(lease.Lock) bool { return true }
