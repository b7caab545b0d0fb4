package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/consul-vip/consul-vip/config"
)

// fakeServices is a Consul agent with services, of which some are not fit, by the reason.
type fakeServices struct {
	mu    sync.Mutex // guards all following fields
	unfit map[string]string
	asked map[string]int
}

func (f *fakeServices) ServiceHealth(_ context.Context, service string) (reason string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[service]++
	return f.unfit[service], nil
}

func (f *fakeServices) set(service, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unfit[service] = reason
}

func (f *fakeServices) count(service string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[service]
}

// withServices gives an agent services.
func withServices(f *fakeServices) func(*fakeHost) {
	return func(h *fakeHost) { h.services = f }
}

// want is the lock that the host contends for.
func (h *fakeHost) want(addr string) (unfit, ineligible error, release bool) {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	lock := h.contenders[addr].lock
	return lock.Unfit, lock.Ineligible, lock.UnfitIneligible
}

const twoChecks = `
check "web" { service = "web" }
check "db" { service = "db" }
check "unused" { service = "unused" }`

func TestServiceChecks(t *testing.T) {
	f := &fakeServices{unfit: map[string]string{"web": "no disk"}, asked: map[string]int{}}
	cfg := configured(t, twoChecks,
		`10.0.0.1 require = ["web"]`, `10.0.0.2 require = ["web", "db"]; when_none_fit = "release"`, `10.0.0.3 require = ["db"]`, "10.0.0.4")
	runFakeHost(t, cfg, withServices(f), func(h *fakeHost) {
		time.Sleep(500 * time.Millisecond)
		for addr, want := range map[string]struct {
			unfit   string
			release bool
		}{"10.0.0.1": {"check web: no disk", false}, "10.0.0.2": {"check web: no disk", true}, "10.0.0.3": {}, "10.0.0.4": {}} {
			unfit, ineligible, release := h.want(addr)
			assert.Equal(t, want.unfit, text(unfit), addr)
			assert.NoError(t, ineligible, addr)
			assert.Equal(t, want.release, release, addr)
		}
		assert.Equal(t, []int{1, 1, 0}, []int{f.count("web"), f.count("db"), f.count("unused")}, "each runs once, for all addresses")

		f.set("web", "")
		calls := h.since(func() { time.Sleep(time.Second) })
		assert.Len(t, calls, 2, "both addresses are updated")
		unfit, _, _ := h.want("10.0.0.2")
		assert.NoError(t, unfit)
		f.set("db", "too slow")
		time.Sleep(time.Second)
		unfit, _, _ = h.want("10.0.0.2")
		assert.EqualError(t, unfit, "check db: too slow")
		assert.Equal(t, []any{"web", "db"}, h.logged("a service is not fit", "check"))
	})
}

// Until its checks have run, a host takes nothing.
func TestServiceChecksThatHaveNotRun(t *testing.T) {
	f := &fakeServices{unfit: map[string]string{}, asked: map[string]int{}}
	cfg := configured(t, `check "web" {
		service = "web"
		rise = 3
	}`, `10.0.0.1 require = ["web"]`)
	runFakeHost(t, cfg, withServices(f), func(h *fakeHost) {
		for range 2 {
			unfit, ineligible, _ := h.want("10.0.0.1")
			assert.NoError(t, unfit)
			assert.ErrorIs(t, ineligible, errNotChecked)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		_, ineligible, _ := h.want("10.0.0.1")
		assert.NoError(t, ineligible)
	})
}

func TestReloadOfServiceChecks(t *testing.T) {
	f := &fakeServices{unfit: map[string]string{"web": "no disk", "db": "too slow"}, asked: map[string]int{}}
	load := func(head string, lines string) *config.Config { return configured(t, head, "10.0.0.1 "+lines) }
	runFakeHost(t, load(twoChecks, `require = ["web"]`), withServices(f), func(h *fakeHost) {
		reload := func(cfg *config.Config, want error) {
			t.Helper()
			h.reload <- cfg
			synctest.Wait()
			time.Sleep(1500 * time.Millisecond)
			unfit, ineligible, _ := h.want("10.0.0.1")
			assert.Equal(t, text(want), text(unfit))
			assert.NoError(t, ineligible)
		}
		reload(load(twoChecks, `require = ["db"]`), errors.New("check db: too slow"))
		asked := f.count("web")
		reload(load(twoChecks, ""), nil)
		assert.Equal(t, asked, f.count("web"), "it does not run any more")
		reload(load(twoChecks, `require = ["web", "db"]`), errors.New("check web: no disk"))

		// A check that is the same goes on, another one begins anew.
		before := f.count("web")
		reload(load(twoChecks, `require = ["web", "db"]; priority = 7`), errors.New("check web: no disk"))
		assert.InDelta(t, before+1, f.count("web"), 1)
		reload(load(`
			check "web" {
				service  = "web"
				interval = "100ms"
			}
			check "db" { service = "db" }`, `require = ["web", "db"]`), errors.New("check web: no disk"))
		assert.Greater(t, f.count("web"), before+10)
	})
}
