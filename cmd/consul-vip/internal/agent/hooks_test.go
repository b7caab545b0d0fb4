package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/hook"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
	"github.com/consul-vip/consul-vip/netif"
)

// fakeHooks records events instead of running programs.
type fakeHooks struct {
	mu     sync.Mutex // guards all following fields
	hooks  []config.Hook
	events []hook.Event
	ended  bool
}

func (f *fakeHooks) Post(e hook.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

func (f *fakeHooks) Await(_ context.Context, e hook.Event) { f.Post(e) }

func (f *fakeHooks) Timeout(kind config.HookEvent, addr netip.Addr) (all time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.hooks {
		if h.Concerns(kind, addr) {
			all += h.Timeout
		}
	}
	return all
}

func (f *fakeHooks) Set(hooks []config.Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hooks = hooks
}

func (f *fakeHooks) Run(ctx context.Context) error {
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	return nil
}

// take returns the events since the last call.
func (f *fakeHooks) take() (events []hook.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	events, f.events = f.events, nil
	return events
}

// texts returns events, each with its address, its interface and its reason.
func (f *fakeHooks) texts() (texts []string) {
	for _, e := range f.take() {
		texts = append(texts, fmt.Sprintf("%s %s %s: %s", e.Kind, e.Address, e.Interface, e.Reason))
	}
	return texts
}

func TestHooksOfATenure(t *testing.T) {
	conflicting := func(c *config.VIP) { c.OnConflict = config.ConflictExit }
	for name, test := range map[string]struct {
		tenure tenure
		end    func(f *fakeVIP, stop stopper)
		want   []string
	}{
		"stopped": {free, func(_ *fakeVIP, stop stopper) { stop(stopped) },
			[]string{"acquired 10.77.0.100 eth0: address bound", "released 10.77.0.100 eth0: " + stopped.Reason.Error()}},
		"transferred": {free, func(_ *fakeVIP, stop stopper) { stop(lease.End{Kind: lease.Transferred, Reason: errTest}) },
			[]string{"acquired 10.77.0.100 eth0: address bound", "released 10.77.0.100 eth0: ended by a test"}},
		"lock lost": {free, func(_ *fakeVIP, stop stopper) { stop(lease.End{Kind: lease.LockLost, Reason: lease.ErrLockLost}) },
			[]string{"acquired 10.77.0.100 eth0: address bound", "lost 10.77.0.100 eth0: lock lost"}},
		"session lost": {free, func(_ *fakeVIP, stop stopper) { stop(lease.End{Kind: lease.SessionLost, Reason: lease.ErrSessionLost}) },
			[]string{"acquired 10.77.0.100 eth0: address bound", "lost 10.77.0.100 eth0: session lost"}},
		"link down": {free, func(f *fakeVIP, _ stopper) {
			f.vip.link.update(netif.LinkChanged{Index: 7})
			time.Sleep(carrierDebounce)
			f.vip.link.debounce()
		}, []string{"acquired 10.77.0.100 eth0: address bound", "lost 10.77.0.100 eth0: the link is down"}},
		"conflict": {free, func(f *fakeVIP, _ stopper) { f.claim(strangerMAC) },
			[]string{"acquired 10.77.0.100 eth0: address bound", "conflict 10.77.0.100 eth0: address conflict: 02:00:00:00:00:09 claims 10.77.0.100"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(conflicting)
				f.serve(t, test.tenure, func(stop stopper) { test.end(f, stop) })
				assert.Equal(t, test.want, f.hooks.texts())
			})
		})
	}
}

// An address that was never bound here was never acquired.
func TestNoHooksBeforeTheAddressIsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.foreignErr = &netif.ForeignError{Addr: f.vip.cfg().Addr(), Interface: "lo"}
		f.serve(t, free, endsByItself)
		assert.Empty(t, f.hooks.take())
	})
}

func TestPreviousNode(t *testing.T) {
	for name, test := range map[string]struct {
		tenure tenure
		want   string
	}{
		"unknown":     {tenure{}, ""},
		"transferred": {tenure{previous: leasestate.Record{State: leasestate.RecordHandover, From: "h2", Node: "h1"}}, "h2"},
		"released":    {tenure{previous: leasestate.Record{State: leasestate.RecordReleased, Node: "h2"}}, "h2"},
		"taken":       {tenure{previous: leasestate.Record{State: leasestate.RecordHeld, Node: "h2"}, victim: &victim{node: "h2"}}, "h2"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, test.tenure.previousNode()) })
	}
}

// An address that is not bound is served by hooks, which must succeed.
func TestUnboundAddress(t *testing.T) {
	cfg := configured(t, `hook "attach" {
		on = ["acquired"]
		command = ["attach"]
	}`, "10.0.0.1 bind = false", "10.0.0.2")
	runFakeHost(t, cfg, nil, func(h *fakeHost) {
		assert.Equal(t, []netip.Addr{netip.MustParseAddr("10.0.0.2")}, h.cleared, "somebody else may have it bound")
		v := h.agent.slots[netip.MustParseAddr("10.0.0.1")].vip
		require.Nil(t, v.link)
		for _, e := range []netif.Event{
			netif.AddressRemoved{Addr: v.cfg().Addr(), Index: 7}, netif.AddressForeign{Addr: v.cfg().Addr()}, netif.Resync{},
			netif.LinkChanged{Index: 7},
		} {
			h.events <- e
		}
		time.Sleep(time.Second)
		synctest.Wait()
		assert.NoError(t, h.ineligible("10.0.0.1"))
		require.ErrorIs(t, h.ineligible("10.0.0.2"), errLinkDown)

		// A tenure of it.
		ctx, cancel := context.WithCancel(context.Background())
		f := newFakeVIP(nil)
		f.end = lease.End{Kind: lease.SessionLost, Reason: lease.ErrSessionLost}
		ended := make(chan outcome, 1)
		go func() { ended <- v.serveUnbound(ctx, tenure{hold: f}) }()
		synctest.Wait()
		assert.Equal(t, []string{"bound"}, f.recorded(), "it can be transferred at once")
		events := h.hooks.take()
		require.Len(t, events, 1)
		assert.Equal(t, config.HookAcquired, events[0].Kind)
		assert.Empty(t, events[0].Interface)
		assert.Equal(t, "h1", events[0].Node)
		assert.True(t, events[0].Insist)
		for _, failing := range []error{errors.New("hook attach: status 429"), nil, errors.New("hook attach: status 500")} {
			events[0].Report(failing)
			assert.Equal(t, failing, h.lock("10.0.0.1").Failing)
		}
		cancel()
		assert.Equal(t, outcome{how: holdEnded}, <-ended)
		assert.NoError(t, h.lock("10.0.0.1").Failing)
		assert.Equal(t, []string{"lost 10.0.0.1 : session lost"}, h.hooks.texts())

		// It becomes one that is bound.
		calls := h.since(func() { h.reload <- configured(t, "", "10.0.0.1", "10.0.0.2") })
		assert.Contains(t, calls, "release 10.0.0.1: "+errMoved.Error())
		assert.NotNil(t, h.agent.slots[netip.MustParseAddr("10.0.0.1")].vip.link)
	})
}

// lock is what the host contends for.
func (h *fakeHost) lock(addr string) lease.Lock {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.contenders[addr].lock
}

func TestHooksOfFitness(t *testing.T) {
	f := &fakeServices{unfit: map[string]string{"web": "no disk"}, asked: map[string]int{}}
	const checks = `check "web" { service = "web" }`
	runFakeHost(t, configured(t, checks, `10.0.0.1 require = ["web"]`, "10.0.0.2"), withServices(f), func(h *fakeHost) {
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, []string{"unfit 10.0.0.1 eth0: check web: no disk"}, h.hooks.texts())
		f.set("web", "no memory") // is the same state for another reason
		time.Sleep(2 * time.Second)
		assert.Empty(t, h.hooks.texts())
		f.set("web", "")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"fit 10.0.0.1 eth0: all checks succeed"}, h.hooks.texts())
		h.reload <- configured(t, "", "10.0.0.1", "10.0.0.2")
		time.Sleep(2 * time.Second)
		assert.Empty(t, h.hooks.texts())
	})
}

// A reload takes hooks up, and touches no address.
func TestReloadOfHooks(t *testing.T) {
	const prepare = `hook "drain" {
		on = ["pre_release"]
		command = ["drain"]
		timeout = "7s"
		vips = ["10.0.0.1"]
	}`
	runFakeHost(t, configured(t, "", "10.0.0.1", "10.0.0.2"), nil, func(h *fakeHost) {
		require.Nil(t, h.lock("10.0.0.1").Prepare)
		calls := h.since(func() { h.reload <- configured(t, prepare, "10.0.0.1", "10.0.0.2") })
		assert.ElementsMatch(t, []string{"update 10.0.0.1: 100, 0s", "update 10.0.0.2: 100, 0s"}, calls)
		lock := h.lock("10.0.0.1")
		assert.Equal(t, 7*time.Second, lock.PrepareTimeout)
		assert.Nil(t, h.lock("10.0.0.2").Prepare)
		lock.Prepare(context.Background(), errTest)
		lock.Kept()
		assert.Equal(t, []string{"pre_release 10.0.0.1 eth0: ended by a test", "acquired 10.0.0.1 eth0: it was not given away after all"}, h.hooks.texts())
		h.reload <- configured(t, "", "10.0.0.1", "10.0.0.2")
		synctest.Wait()
		assert.Nil(t, h.lock("10.0.0.1").Prepare)
		assert.False(t, h.hooks.ended)
	})
}
