package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/localstatus"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

// status returns what the agent tells of itself.
func (h *fakeHost) status(t *testing.T) *localstatus.Status {
	t.Helper()
	synctest.Wait()
	s, err := statusOf{h.agent, "1.2.3"}.Status(context.Background())
	require.NoError(t, err)
	return s
}

// A standby tells of its addresses, its checks and Consul.
func TestLocalStatusOfAStandby(t *testing.T) {
	f := &fakeServices{unfit: map[string]string{"web": "no disk"}, asked: map[string]int{}}
	cfg := configured(t, twoChecks+"\nnode_name = \"h1\"", "10.0.0.3",
		`10.0.0.1 require = ["web"]`, `10.0.0.2 require = ["web", "db"]; when_none_fit = "release"`)
	runFakeHost(t, cfg, withServices(f), func(h *fakeHost) {
		began := time.Now()
		time.Sleep(10 * time.Second)
		answered := time.Now()
		h.mu.Lock()
		h.contact = lease.Contact{Session: "cdf2f1b7-f7a0-bb14", Left: 17500 * time.Millisecond, Answered: answered}
		h.mu.Unlock()
		s := h.status(t)
		assert.Equal(t, []string{"h1", "1.2.3", "consul-vip"}, []string{s.Node, s.Version, s.Prefix})
		assert.Equal(t, began, s.Started)
		assert.Equal(t, localstatus.Consul{
			Answers: true, LastContact: &answered, Session: "cdf2f1b7", HoldLeft: localstatus.Left(17500 * time.Millisecond),
		}, s.Consul)
		standby := func(vip string) localstatus.Address {
			return localstatus.Address{
				VIP: vip, State: "standby", Since: &began, Reason: "started", Interface: "eth0", Lock: "unknown", Eligible: true,
			}
		}
		one, two := standby("10.0.0.1"), standby("10.0.0.2")
		one.Require, one.Fitness, one.Unfit = []string{"web"}, "not fit", "check web: no disk"
		two.Require, two.Fitness, two.Unfit = []string{"web", "db"}, "not fit", "check web: no disk"
		two.Eligible, two.Ineligible = false, "check web: no disk"
		assert.Equal(t, []localstatus.Address{one, two, standby("10.0.0.3")}, s.Addresses)
		assert.Equal(t, []localstatus.Check{
			{Name: "db", Fit: true, Known: true, Since: began},
			{Name: "web", Known: true, Reason: "no disk", Since: began},
		}, s.Checks)
		assert.Empty(t, s.HostChecks)
		assert.Len(t, s.Transitions, 3)

		h.mu.Lock()
		h.contact = lease.Contact{Answered: answered, FailingSince: answered.Add(time.Second), Err: errors.New("refused")}
		h.mu.Unlock()
		f.set("web", "")
		time.Sleep(5 * time.Second)
		s = h.status(t)
		failing := answered.Add(time.Second)
		assert.Equal(t, localstatus.Consul{LastContact: &answered, FailingSince: &failing, Error: "refused"}, s.Consul)
		assert.Equal(t, "fit", s.Addresses[1].Fitness)
		assert.True(t, s.Addresses[1].Eligible)
		assert.True(t, s.Checks[1].Fit)
		assert.WithinDuration(t, answered, s.Checks[1].Since, 2*time.Second)
	})
}

// Checks that have not run are not known, and a link that is down is a reason.
func TestLocalStatusOfAnIneligibleHost(t *testing.T) {
	f := &fakeServices{unfit: map[string]string{}, asked: map[string]int{}}
	cfg := configured(t, "check \"web\" {\nservice = \"web\"\nrise = 9\n}", `10.0.0.1 require = ["web"]`, "10.0.0.2")
	runFakeHost(t, cfg, withServices(f), func(h *fakeHost) {
		s := h.status(t)
		assert.Equal(t, "unknown", s.Addresses[0].Fitness)
		assert.Equal(t, "check web: the check has not run yet", s.Addresses[0].Ineligible)
		h.since(func() { h.events <- netif.LinkChanged{Index: 7, Up: true} })
		h.since(func() { h.events <- netif.LinkChanged{Index: 7} })
		time.Sleep(2 * carrierDebounce)
		s = h.status(t)
		assert.False(t, s.Addresses[1].Eligible)
		assert.Equal(t, errLinkDown.Error(), s.Addresses[1].Ineligible)
	})
}

// An address that has failed on this host tells for how long it is left to others.
func TestLocalStatusDuringABackOff(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1"), nil, func(h *fakeHost) {
		h.agent.slots[netip.MustParseAddr("10.0.0.1")].vip.fitness.fail(errors.New("too slow"))
		time.Sleep(shortestBackOff / 4)
		one := h.status(t).Addresses[0]
		assert.Equal(t, "too slow", one.Ineligible)
		assert.Equal(t, localstatus.Left(shortestBackOff*3/4), one.BackoffLeft)
		time.Sleep(shortestBackOff)
		one = h.status(t).Addresses[0]
		assert.True(t, one.Eligible)
		assert.Nil(t, one.BackoffLeft)
	})
}

// The keys say who owns an address, as far as this host knows.
func TestLocalStatusOfTheOwner(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1", "10.0.0.2"), nil, func(h *fakeHost) {
		h.keys.Set(ownedBy(ownerHost, "s2", 5, "10.0.0.1"))
		s := h.status(t)
		assert.Equal(t, []string{"held", "h2", ""}, []string{s.Addresses[0].Lock, s.Addresses[0].Owner, s.Addresses[0].Note})
		assert.Equal(t, []string{"free", "", "no members"}, []string{s.Addresses[1].Lock, s.Addresses[1].Owner, s.Addresses[1].Note})
	})
}

// The time that is left to an owner becomes less, and is gone with the address.
func TestLocalStatusOfAnOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.vip.present.history = &history{}
		f.deadline.Store(int64(9 * time.Second))
		assert.Nil(t, f.vip.status(nil).HoldLeft)
		f.serve(t, free, func(stop stopper) {
			s := f.vip.status(nil)
			assert.Equal(t, "active", s.State)
			require.NotNil(t, s.HoldLeft)
			assert.LessOrEqual(t, s.HoldLeft.Duration(), 9*time.Second)
			require.NotNil(t, s.LifetimeLeft)
			assert.Equal(t, f.vip.cfg().DeadMan, s.LifetimeLeft.Duration())
			time.Sleep(3500 * time.Millisecond)
			later := f.vip.status(nil)
			assert.Equal(t, 3500*time.Millisecond, s.HoldLeft.Duration()-later.HoldLeft.Duration())
			assert.LessOrEqual(t, later.LifetimeLeft.Duration(), f.vip.cfg().DeadMan)
			assert.Positive(t, later.LifetimeLeft.Duration())
			stopAtOnce(stop)
		})
		s := f.vip.status(nil)
		assert.Equal(t, "releasing", s.State)
		assert.Nil(t, s.HoldLeft)
		assert.Nil(t, s.LifetimeLeft)
		var states []state
		for _, tr := range f.vip.present.history.list() {
			states = append(states, tr.from, tr.to)
		}
		assert.Equal(t, []state{"", stateAcquired, stateAcquired, stateActive, stateActive, stateReleasing}, states)
	})
}

// A check of another host tells what it has missed.
func TestLocalStatusOfAHostCheck(t *testing.T) {
	vips := []string{"10.0.0.1", "10.0.0.2"}
	runFakeHost(t, configured(t, "", vips...), onSegment, func(h *fakeHost) {
		h.setKeys(ownedBy(ownerHost, "s2", 5, vips...), map[string]int{vips[0]: 0, vips[1]: 1})
		began := time.Now()
		check := h.runningChecks()[0]
		want := localstatus.HostCheck{
			Node: "h2", Host: "10.0.0.22", Interface: "eth0", Addresses: vips, State: "unknown", Since: began, Misses: 8,
		}
		first := func() localstatus.HostCheck {
			checks := h.status(t).HostChecks
			require.Len(t, checks, 1)
			return checks[0]
		}
		require.Equal(t, want, first())

		check.isHeard()
		check.Missed.Store(3)
		want.State, want.Missed = "alive", 3
		require.Equal(t, want, first())
		lastHeard := time.Now()
		check.diesNow()
		want.State, want.Since = "dead", lastHeard
		require.Equal(t, want, first())
		check.isHeard()
		want.State, want.Since = "alive", time.Now()
		require.Equal(t, want, first())
	})
}

func TestLocalStatusOfABusyAgent(t *testing.T) {
	busy := func(h *fakeHost) { h.onPrioritize = func() { time.Sleep(10 * time.Second) } }
	runFakeHost(t, configured(t, "", "10.0.0.1"), busy, func(h *fakeHost) {
		h.priority <- 1
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := statusOf{h.agent, ""}.Status(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		time.Sleep(10 * time.Second)
		require.Len(t, h.status(t).Addresses, 1)
	})
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	for i := range 3 * longestHistory {
		h.add(transition{vip: fmt.Sprint(i)})
	}
	list := h.list()
	require.Len(t, list, longestHistory)
	require.Equal(t, fmt.Sprint(2*longestHistory), list[0].vip)
	require.Equal(t, fmt.Sprint(3*longestHistory-1), list[longestHistory-1].vip)
}

// A socket that cannot be opened is only logged.
func TestLocalSocketFails(t *testing.T) {
	for name, test := range map[string]struct {
		path  string
		err   error
		level string // of the line in the log; empty: there is none
	}{
		"turned off":                      {"", nil, ""},
		"the default without a directory": {config.DefaultSocket, fs.ErrNotExist, "info"},
		"another without a directory":     {"/run/vips/h1.sock", fs.ErrNotExist, "warn"},
		"in use":                          {config.DefaultSocket, localstatus.ErrInUse, "warn"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &fakeHost{}
			h.logger = hclog.New(&hclog.LoggerOptions{Output: &h.log, JSONFormat: true})
			a := newAgent(h, h.open, h, Owner{}, h.logger)
			a.local.listen = func(_ context.Context, path string) (net.Listener, error) {
				require.Equal(t, test.path, path)
				require.NotEmpty(t, path)
				return nil, fmt.Errorf("listening: %w", test.err)
			}
			a.serveLocal(t.Context(), Options{Config: &config.Config{Socket: test.path}})
			if test.level == "" {
				require.Empty(t, h.log.String())
				return
			}
			require.Contains(t, h.log.String(), `"@level":"`+test.level+`"`)
			require.Contains(t, h.log.String(), test.path)
		})
	}
}

// The socket answers while the loop runs, and is gone with the agent.
func TestLocalSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	h := &fakeHost{}
	h.logger = hclog.New(&hclog.LoggerOptions{Output: &h.log, JSONFormat: true})
	a := newAgent(h, h.open, h, Owner{}, h.logger)
	a.local.listen = localstatus.Listen
	ctx, cancel := context.WithCancel(t.Context())
	a.backgroundCtx = ctx
	a.background.Go(func() { a.serveLocal(ctx, Options{Config: &config.Config{Socket: path}, Version: "1.2.3"}) })
	a.background.Go(func() { // as the loop does
		for {
			select {
			case to := <-a.local.asked:
				to <- a.inspect()
			case <-ctx.Done():
				return
			}
		}
	})
	require.Eventually(t, func() bool {
		s, err := localstatus.Get(t.Context(), path)
		return err == nil && s.Version == "1.2.3"
	}, 10*time.Second, 10*time.Millisecond)
	cancel()
	a.background.Wait()
	require.NoFileExists(t, path)
	_, err := localstatus.Get(t.Context(), path)
	require.ErrorIs(t, err, localstatus.ErrNoAgent)
}
