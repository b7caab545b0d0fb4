package agent

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
)

func TestPlan(t *testing.T) {
	tests := map[string]struct {
		from, to                []string
		added, changed, removed []string
		unchanged               int
	}{
		"the same":         {[]string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.1", "10.0.0.2"}, nil, nil, nil, 2},
		"another order":    {[]string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.2", "10.0.0.1"}, nil, nil, nil, 2},
		"one added":        {[]string{"10.0.0.1"}, []string{"10.0.0.2", "10.0.0.1"}, []string{"10.0.0.2"}, nil, nil, 1},
		"one removed":      {[]string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.2"}, nil, nil, []string{"10.0.0.1"}, 1},
		"one for another":  {[]string{"10.0.0.1"}, []string{"10.0.0.2"}, []string{"10.0.0.2"}, nil, []string{"10.0.0.1"}, 0},
		"a default spelt":  {[]string{"10.0.0.1"}, []string{"10.0.0.1 priority = 100"}, nil, nil, nil, 1},
		"a key changed":    {[]string{"10.0.0.1"}, []string{"10.0.0.1 priority = 99"}, nil, []string{"10.0.0.1"}, nil, 0},
		"a prefix changed": {[]string{"10.0.0.1"}, []string{"10.0.0.1/24"}, nil, []string{"10.0.0.1"}, nil, 0},
		"all at once": {
			[]string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, []string{"10.0.0.4", "10.0.0.2", "10.0.0.3 preempt = true"},
			[]string{"10.0.0.4"}, []string{"10.0.0.3"}, []string{"10.0.0.1"}, 1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPlan(configured(t, "", test.from...), configured(t, "", test.to...))
			list := func(addrs []string) []string { return append([]string{}, addrs...) }
			assert.Equal(t, []any{
				"added", list(test.added), "removed", list(test.removed),
				"changed", list(test.changed), "unchanged", test.unchanged,
			}, p.summary())
			assert.Empty(t, p.restart)
		})
	}
}

// A reload applies every key of a configuration or names it as one that needs a
// restart, also keys that will be added to config.
func TestPlanCoversEveryKey(t *testing.T) {
	from := configured(t, "", "10.0.0.1")
	restarts := map[string]string{
		"LogJSON": "log_json", "NodeName": "node_name", "Socket": "socket",
		"Consul.Address": "consul.address", "Consul.TokenFile": "consul.token_file", "Consul.Prefix": "consul.prefix",
		"Consul.Service": "consul.service", "Consul.SessionTTL": "consul.session_ttl", "Consul.CheckTTL": "consul.check_ttl",
	}
	check := func(name string, change func(*config.Config) reflect.Value) {
		t.Run(name, func(t *testing.T) {
			to := *from
			alter(t, change(&to))
			p := newPlan(from, &to)
			if key, ok := restarts[name]; ok {
				assert.Equal(t, []string{key}, p.restart)
				assert.Equal(t, *from, *p.cfg, "nothing else changes")
				return
			}
			assert.Empty(t, p.restart)
			assert.Equal(t, to, *p.cfg)
		})
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		if f.Name != "VIPs" && f.Name != "Consul" {
			check(f.Name, func(c *config.Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(f.Index) })
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Consul]()) {
		check("Consul."+f.Name, func(c *config.Config) reflect.Value { return reflect.ValueOf(&c.Consul).Elem().FieldByIndex(f.Index) })
	}
}

// alter changes the value of a field.
func alter(t *testing.T, field reflect.Value) {
	t.Helper()
	switch field.Kind() {
	case reflect.Bool:
		field.SetBool(!field.Bool())
	case reflect.String:
		field.SetString(field.String() + "-other")
	case reflect.Int32, reflect.Int64:
		field.SetInt(field.Int() + 1)
	case reflect.Struct:
		alter(t, field.Field(0))
	case reflect.Slice:
		field.Set(reflect.Append(field, reflect.Zero(field.Type().Elem())))
	default:
		require.Failf(t, "cannot alter the field", "a %s", field.Kind())
	}
}

func TestReload(t *testing.T) {
	reloads(t, map[string]reloadTest{
		"nothing changes": {[]string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.1", "10.0.0.2"}, nil},
		"added":           {[]string{"10.0.0.1"}, []string{"10.0.0.1", "10.0.0.2"}, []string{"contend for 10.0.0.2"}},
		"removed": {
			[]string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.1"},
			[]string{"release 10.0.0.2: removed from the configuration"},
		},
		"priority": {[]string{"10.0.0.1"}, []string{"10.0.0.1 priority = 7"}, []string{"update 10.0.0.1: 7, 0s"}},
		"preempt":  {[]string{"10.0.0.1"}, []string{"10.0.0.1 preempt = true"}, []string{"update 10.0.0.1: 100, 10s"}},
		"preempt_delay": {
			[]string{"10.0.0.1 preempt = true"}, []string{`10.0.0.1 preempt = true; preempt_delay = "3s"`},
			[]string{"update 10.0.0.1: 100, 3s"},
		},
		"keys that do not concern the lock": {
			[]string{"10.0.0.1"},
			[]string{`10.0.0.1 on_conflict = "log"; on_loss = "contend"; takeover = "strict"; dead_man = "9s"; announce { interval = "3s" }`},
			nil,
		},
		"the current interface": {[]string{"10.0.0.1"}, []string{`10.0.0.1 interface = "eth0"`}, nil},
	})
}

func TestReloadThatMoves(t *testing.T) {
	reloads(t, map[string]reloadTest{
		"another interface": {
			[]string{"10.0.0.1", "10.0.0.2"}, []string{`10.0.0.1 interface = "eth1"`, "10.0.0.2"},
			[]string{"open eth1", "release 10.0.0.1: " + errMoved.Error(), "contend for 10.0.0.1"},
		},
		"prefix length": {
			[]string{"10.0.0.1"}, []string{"10.0.0.1/24"},
			[]string{"release 10.0.0.1: " + errMoved.Error(), "contend for 10.0.0.1"},
		},
		"the last address of an interface": {
			[]string{"10.0.0.1"}, []string{`10.0.0.1 interface = "eth1"`},
			[]string{"open eth1", "release 10.0.0.1: " + errMoved.Error(), "contend for 10.0.0.1", "close eth0"},
		},
		"the last address of an interface is removed": {
			[]string{"10.0.0.1", `10.0.0.2 interface = "eth1"`}, []string{"10.0.0.1"},
			[]string{"release 10.0.0.2: removed from the configuration", "close eth1"},
		},
	})
}

// reloadTest is a reload and the calls that the agent makes because of it, in any
// order.
type reloadTest struct{ from, to, calls []string }

func reloads(t *testing.T, tests map[string]reloadTest) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			from, to := configured(t, "", test.from...), configured(t, "", test.to...)
			runFakeHost(t, from, nil, func(h *fakeHost) {
				assert.ElementsMatch(t, test.calls, h.since(func() { h.reload <- to }))
				assert.Equal(t, to.VIPs, h.agent.cfg.VIPs)
				for _, v := range to.VIPs {
					assert.Equal(t, v.DeadMan, h.agent.slots[v.Addr()].vip.cfg().DeadMan)
				}
				assert.Len(t, h.logged("configuration reloaded", "unchanged"), 1)
				assert.Empty(t, h.since(func() { h.reload <- to }), "the second reload changes nothing")
			})
		})
	}
}

// A VIP that moves releases the address before its successor contends.
func TestReloadMovesInOrder(t *testing.T) {
	slow := func(h *fakeHost) { h.mayRelease = make(chan struct{}) }
	runFakeHost(t, configured(t, "", "10.0.0.1"), slow, func(h *fakeHost) {
		to := configured(t, "", `10.0.0.1 interface = "eth1"`)
		assert.Equal(t, []string{"open eth1"}, h.since(func() { h.reload <- to }))
		calls := h.since(func() { close(h.mayRelease) })
		assert.Equal(t, "release 10.0.0.1: "+errMoved.Error(), calls[0])
		assert.ElementsMatch(t, []string{"contend for 10.0.0.1", "close eth0"}, calls[1:])
	})
}

// Reloads can arrive while VIPs of an earlier one are still ending.
func TestReloadWhileAVIPEnds(t *testing.T) {
	both := []string{"10.0.0.1", "10.0.0.2"}
	moved := []string{`10.0.0.1 interface = "eth1"`, "10.0.0.2"}
	for name, test := range map[string]struct {
		to   [][]string // one after the other
		then []string   // the calls when the VIP may release its lock
	}{
		"removed, added again": {
			[][]string{{"10.0.0.2"}, both},
			[]string{"release 10.0.0.1: removed from the configuration", "contend for 10.0.0.1"},
		},
		"removed, added again, removed": {
			[][]string{{"10.0.0.2"}, both, {"10.0.0.2"}},
			[]string{"release 10.0.0.1: removed from the configuration"},
		},
		"moved, moved back": {
			[][]string{moved, both},
			[]string{"release 10.0.0.1: " + errMoved.Error(), "contend for 10.0.0.1"},
		},
		"moved, changed": {
			[][]string{moved, {`10.0.0.1 interface = "eth1"; priority = 9`, "10.0.0.2"}},
			[]string{"release 10.0.0.1: " + errMoved.Error(), "contend for 10.0.0.1"},
		},
		"moved, removed": {
			[][]string{moved, {"10.0.0.2"}},
			[]string{"release 10.0.0.1: " + errMoved.Error()},
		},
	} {
		t.Run(name, func(t *testing.T) { testReloadsWhileAVIPEnds(t, both, test.to, test.then) })
	}
}

func testReloadsWhileAVIPEnds(t *testing.T, from []string, to [][]string, then []string) {
	slow := func(h *fakeHost) { h.mayRelease = make(chan struct{}) }
	runFakeHost(t, configured(t, "", from...), slow, func(h *fakeHost) {
		var last *config.Config
		assert.Subset(t, []string{"open eth1", "close eth1"}, h.since(func() {
			for _, vips := range to {
				last = configured(t, "", vips...)
				h.reload <- last
			}
		}), "the lock is not released yet")
		calls := h.since(func() { close(h.mayRelease) })
		assert.Equal(t, then, slices.DeleteFunc(calls, func(call string) bool { return call == "close eth0" || call == "close eth1" }))
		assert.Len(t, h.agent.slots, len(last.VIPs))
		for _, v := range last.VIPs {
			assert.Equal(t, v, *h.agent.slots[v.Addr()].vip.cfg())
		}
	})
}

// A reload looks for the interface of an address only if the address is new or its
// interface is changed.
func TestReloadFindsOnlyWhatMoves(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1"), nil, func(h *fakeHost) {
		h.home = "eth1"
		assert.Equal(t, []string{"update 10.0.0.1: 3, 0s"},
			h.since(func() { h.reload <- configured(t, "", "10.0.0.1 priority = 3") }))
		assert.Equal(t, []string{"open eth1", "contend for 10.0.0.2"},
			h.since(func() { h.reload <- configured(t, "", "10.0.0.1 priority = 3", "10.0.0.2") }))
	})
}

// An address whose VIP still runs was bound by this process, not left by a previous
// one.
func TestReloadClearsOnlyWhatIsNew(t *testing.T) {
	one, two, three := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	slow := func(h *fakeHost) { h.mayRelease = make(chan struct{}) }
	runFakeHost(t, configured(t, "", "10.0.0.1", "10.0.0.2"), slow, func(h *fakeHost) {
		assert.Equal(t, []netip.Addr{one, two}, h.cleared)
		h.since(func() { h.reload <- configured(t, "", "10.0.0.1") })
		h.since(func() { h.reload <- configured(t, "", `10.0.0.1 interface = "eth1"`, "10.0.0.2", "10.0.0.3") })
		assert.Equal(t, []netip.Addr{one, two, three}, h.cleared)
		close(h.mayRelease)
	})
}

func TestFailedReloadChangesNothing(t *testing.T) {
	from := configured(t, "", "10.0.0.1", "10.0.0.2")
	for name, test := range map[string]struct {
		to  []string
		err string
	}{
		"no interface for a new address":  {[]string{"10.0.0.1 priority = 3", `10.0.0.3 interface = "eth9"`}, "vip 10.0.0.3: " + errNoLink.Error()},
		"no interface for an old address": {[]string{`10.0.0.1 interface = "eth9"`}, "vip 10.0.0.1: " + errNoLink.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			runFakeHost(t, from, nil, func(h *fakeHost) {
				to := configured(t, `log_level = "debug"`, test.to...)
				assert.Empty(t, h.since(func() { h.reload <- to }))
				assert.Equal(t, from.VIPs, h.agent.cfg.VIPs)
				assert.Equal(t, hclog.Info, h.logger.GetLevel())
				assert.Empty(t, h.logged("configuration reloaded", "added"))
				logged := h.logged("configuration not reloaded, nothing has changed", "error")
				require.Len(t, logged, 1)
				assert.Contains(t, logged[0], test.err)
			})
		})
	}
	t.Run("its links are closed", func(t *testing.T) {
		runFakeHost(t, from, nil, func(h *fakeHost) {
			to := configured(t, "", `10.0.0.3 interface = "eth1"`, `10.0.0.9 interface = "eth9"`)
			assert.Equal(t, []string{"open eth1", "close eth1"}, h.since(func() { h.reload <- to }))
		})
	})
}

func TestReloadOfKeysThatNeedARestart(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1"), nil, func(h *fakeHost) {
		to := configured(t, "node_name = \"other\"\nconsul { session_ttl = \"60s\" }", "10.0.0.1 priority = 3")
		assert.Equal(t, []string{"update 10.0.0.1: 3, 0s"}, h.since(func() { h.reload <- to }))
		keys := []any{"node_name", "consul.session_ttl"}
		logged := func() []any { return h.logged("a changed key takes effect only after a restart", "key") }
		assert.Equal(t, keys, logged())
		assert.Equal(t, config.DefaultSessionTTL, h.agent.cfg.Consul.SessionTTL)
		h.since(func() { h.reload <- to })
		assert.Equal(t, append(keys, keys...), logged(), "at every reload while they differ")
	})
}

func TestReloadOfTheLogLevel(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1"), nil, func(h *fakeHost) {
		assert.Empty(t, h.since(func() { h.reload <- configured(t, `log_level = "warn"`, "10.0.0.1") }))
		assert.Equal(t, hclog.Warn, h.logger.GetLevel())
		assert.False(t, h.agent.slots[netip.MustParseAddr("10.0.0.1")].vip.log.IsInfo(), "the VIPs' loggers follow")
	})
}

// A stop also ends the VIPs that a reload is moving.
func TestStopDuringReload(t *testing.T) {
	slow := func(h *fakeHost) { h.mayRelease = make(chan struct{}) }
	runFakeHost(t, configured(t, "", "10.0.0.1", "10.0.0.2"), slow, func(h *fakeHost) {
		h.since(func() { h.reload <- configured(t, "", `10.0.0.1 interface = "eth1"`) })
		assert.Equal(t, []string{"leave"}, h.since(func() { h.stop(errTest) }))
		assert.ElementsMatch(t, []string{
			"release 10.0.0.1: " + errMoved.Error(), "release 10.0.0.2: removed from the configuration",
			"close eth0", "close eth1", "end session",
		}, h.since(func() { close(h.mayRelease) }))
	})
}
