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
			f := newFakeVIP(nil)
			log := hclog.New(&hclog.LoggerOptions{Output: &out, JSONFormat: format == "JSON", DisableTime: true})
			v := newVIP(*f.vip.cfg(), f.vip.link, nil, shared{locks: f, hooks: &f.hooks, log: log})
			early := v.log
			v.enter(stateStandby, "started")
			early.Info("early")
			v.enter(stateAcquired, "lock acquired", "record", "held")
			early.Info("early")
			require.Equal(t, want, out.String())
		})
	}
}

// TestEndOfAHold is the table of what ends the process.
func TestEndOfAHold(t *testing.T) {
	lost := func(kind lease.Kind, err error) lease.End { return lease.End{Kind: kind, Reason: err} }
	stepped := func(how how, err error) (lease.End, outcome) {
		return lease.End{Kind: lease.SteppedDown, Reason: err}, outcome{how: how, err: err}
	}
	tests := map[string]struct {
		end    lease.End
		own    outcome
		onLoss config.OnLoss
		want   error
	}{
		"lock lost, exit":          {lost(lease.LockLost, lease.ErrLockLost), outcome{how: holdEnded}, config.LossExit, lease.ErrLockLost},
		"lock lost, contend":       {lost(lease.LockLost, lease.ErrLockLost), outcome{how: holdEnded}, config.LossContend, nil},
		"session lost, contend":    {lost(lease.SessionLost, lease.ErrSessionLost), outcome{how: holdEnded}, config.LossContend, lease.ErrSessionLost},
		"transferred":              {lost(lease.Transferred, errTest), outcome{how: holdEnded}, config.LossExit, nil},
		"released":                 {lost(lease.Released, errTest), outcome{how: holdEnded}, config.LossExit, nil},
		"conflict with a transfer": {lost(lease.Transferred, errTest), outcome{how: conflict, err: ErrConflict}, config.LossExit, nil},
	}
	for name, own := range map[string]struct {
		how    how
		onLoss config.OnLoss
		exits  bool
	}{
		"link down":             {linkDown, config.LossExit, false},
		"no frame can be sent":  {unable, config.LossExit, false},
		"foreign address":       {foreign, config.LossExit, false},
		"address lost, exit":    {addressLost, config.LossExit, true},
		"address lost, contend": {addressLost, config.LossContend, false},
		"conflict, contend":     {conflict, config.LossContend, true},
		"contested":             {contested, config.LossExit, false},
		"the kernel refuses":    {failed, config.LossContend, true},
	} {
		test := tests[name]
		test.onLoss = own.onLoss
		test.end, test.own = stepped(own.how, errTest)
		if own.exits {
			test.want = errTest
		}
		tests[name] = test
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFakeVIP(func(c *config.VIP) { c.OnLoss = test.onLoss })
			require.Equal(t, test.want, f.vip.exit(test.end, test.own))
		})
	}
}

func TestRunContendsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.contender.ends = make(chan lease.End, 3)
		ctx, cancel := context.WithCancel(context.Background())
		result := make(chan error, 1)
		go func() { result <- f.vip.run(ctx) }()
		f.contender.ends <- lease.End{Kind: lease.Released, Reason: errTest}
		synctest.Wait()
		assert.Equal(t, 2, f.contender.holds)
		cancel()
		require.NoError(t, <-result)
	})
}

func TestOnLossAsCurrentlyConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.contender.ends = make(chan lease.End, 3)
		result := make(chan error, 1)
		go func() { result <- f.vip.run(context.Background()) }()
		f.reconfigure(func(c *config.VIP) { c.OnLoss = config.LossContend })
		f.contender.ends <- lease.End{Kind: lease.LockLost, Reason: lease.ErrLockLost}
		synctest.Wait()
		assert.Empty(t, result)
		f.reconfigure(func(c *config.VIP) { c.OnLoss = config.LossExit })
		f.contender.ends <- lease.End{Kind: lease.LockLost, Reason: lease.ErrLockLost}
		require.ErrorIs(t, <-result, lease.ErrLockLost)
	})
}
