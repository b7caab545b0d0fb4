package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// kvGet is what "consul kv get" prints of the lock.
func (s *scene) kvGet(h *lab.Host) string {
	s.t.Helper()
	out, err := h.Run(s.t.Context(), lab.Command{Args: []string{s.consul, "kv", "get", s.key(s.vip)}})
	require.NoError(s.t, err)
	return strings.TrimSpace(string(out))
}

// pin is what the address is pinned to, empty if it is not.
func (s *scene) pin() string {
	s.t.Helper()
	pair, _, err := s.asked.API.KV().Get(s.name+"/"+s.vip.String()+"/pin", &api.QueryOptions{RequireConsistent: true})
	require.NoError(s.t, err)
	if pair == nil {
		return ""
	}
	return string(pair.Value)
}

// index is where an address's lock was written last.
func (s *scene) index(vip netip.Addr) uint64 {
	s.t.Helper()
	pair, _, err := s.record(vip)
	require.NoError(s.t, err)
	return pair.ModifyIndex
}

// TestMoveAndUnpin moves one of two addresses by command. Nothing exits, and the
// other address is not touched.
func TestMoveAndUnpin(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	other := netip.AddrFrom4([4]byte{10, 77, 8, 1})
	s.vips = append(s.vips, other)
	procs := s.startAll(config{})
	h1, h2, h3 := procs[0].Host, procs[1].Host, procs[2].Host
	untouched := s.index(other)

	code, out, _ := s.run(h3, "move", s.vip.String(), "-to="+h2.Name)
	require.Zero(t, code)
	t.Log(out)
	unpin := fmt.Sprintf("`consul-vip unpin -prefix=%s %s`", s.name, s.vip)
	require.Regexp(t, fmt.Sprintf(`^%s: %s -> %s in \d+ ms, pinned there until %s\n$`, s.vip, h1.Name, h2.Name, unpin), out)
	s.eventually(within, func() error { return s.ownedBy(h2) })
	require.Equal(t, h2.Name, s.pin())
	row := s.status(h1)[s.vip.String()]
	require.Equal(t, "pinned to "+h2.Name, row["note"])
	require.Equal(t, h2.Name, row["pin"])

	for node, want := range map[string]string{
		h2.Name: h2.Name + " has " + s.vip.String() + " already",
		"h9":    "h9 does not contend for " + s.vip.String(),
	} {
		code, out, objection := s.run(h1, "move", "--to", node, s.vip.String())
		require.Equal(t, 1, code)
		require.Empty(t, out)
		require.Contains(t, objection, want)
		require.Equal(t, h2.Name, s.pin(), "nothing is written")
	}
	code, _, objection := s.run(h1, "move", "10.77.8.2")
	require.Equal(t, 1, code)
	require.Contains(t, objection, other.String())

	// Without a node it goes to another one, whichever is best placed.
	code, out, _ = s.run(h1, "move", s.vip.String())
	require.Zero(t, code)
	require.Contains(t, out, s.vip.String()+": "+h2.Name+" -> ")
	owner := s.takenOver(h2)
	require.Equal(t, owner.Name, s.pin())

	for _, want := range []string{owner.Name + " has it, no longer pinned", "was not pinned"} {
		code, out, _ = s.run(h1, "unpin", s.vip.String())
		require.Zero(t, code)
		require.Contains(t, out, want)
		require.Empty(t, s.pin())
	}
	require.NoError(t, s.ownedBy(owner), "who has it keeps it")
	require.Equal(t, untouched, s.index(other))
	for _, p := range procs {
		require.True(t, p.Running())
	}
}

// TestMoveInVain moves to a node whose process is frozen.
func TestMoveInVain(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	// The check is not to run out before the command has given up.
	procs := s.startAll(config{consul: `  check_ttl = "10s"`})
	h1, h2 := procs[0].Host, procs[1].Host
	require.NoError(t, procs[0].Signal(syscall.SIGSTOP))
	code, out, objection := s.run(h2, "move", s.vip.String(), "-to="+h2.Name, "-timeout=1s")
	require.NoError(t, procs[0].Signal(syscall.SIGCONT))
	require.Equal(t, 1, code)
	require.Empty(t, out)
	require.Contains(t, objection, h1.Name+" has it (pinned to "+h2.Name+")")
	require.Contains(t, objection, "consul-vip unpin")
	require.Equal(t, h2.Name, s.pin(), "the pin stays")
	s.eventually(2*soon, func() error { return s.ownedBy(h2) })
}

// TestReleaseByCommand has one of two addresses handed over by request.
func TestReleaseByCommand(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	other := netip.AddrFrom4([4]byte{10, 77, 8, 2})
	s.vips = append(s.vips, other)
	procs := s.startAll(config{})
	h1 := procs[0].Host
	untouched := s.index(other)
	code, out, objection := s.run(procs[2].Host, "release", s.vip.String())
	require.Zero(t, code, objection)
	t.Log(out)
	next := s.takenOver(h1)
	require.Regexp(t, fmt.Sprintf(`^%s: %s -> %s in \d+ ms\n$`, s.vip, h1.Name, next.Name), out)
	require.Equal(t, untouched, s.index(other))
	require.True(t, procs[0].Running())

	for _, p := range procs {
		require.NoError(t, p.Signal(syscall.SIGTERM))
		s.exits(p, 0, 4*time.Second)
	}
	code, _, objection = s.run(h1, "release", s.vip.String())
	require.Equal(t, 1, code)
	require.Contains(t, objection, "no instance has "+s.vip.String())
	pair, _, err := s.asked.API.KV().Get(s.name+"/"+s.vip.String()+"/release", nil)
	require.NoError(t, err)
	require.Nil(t, pair, "nothing is written, or left behind")
}

// TestReleaseToConsulLock has the only instance let go, and "consul lock" waits.
func TestReleaseToConsulLock(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	p := s.startOn(config{}, s.Servers[0])[0]
	lock := s.consulLock(s.Servers[2])
	s.eventually(soon, lock.waits)
	code, out, objection := s.run(p.Host, "release", s.vip.String())
	require.Zero(t, code, objection)
	t.Log(out)
	require.Contains(t, out, s.vip.String()+": "+p.Host.Name+" -> ")
	s.eventually(soon, lock.holds)
	require.NoError(t, s.unbound(t.Context()))
	lock.end()
	s.eventually(2*soon, func() error { return s.ownedBy(p.Host) })
	require.True(t, p.Running())
}

// TestWithhold keeps an address from all instances, gives it to "consul lock" and
// lets them have it again.
func TestWithhold(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{})
	h1, h3 := procs[0].Host, procs[2].Host
	code, out, objection := s.run(h3, "release", "-hold", s.vip.String())
	require.Zero(t, code, objection)
	t.Log(out)
	require.Regexp(t, fmt.Sprintf(`^%s: %s -> nobody in \d+ ms, and no node takes it until .consul-vip unpin`, s.vip, h1.Name), out)
	require.NoError(t, s.unbound(t.Context()))
	require.Equal(t, "-", s.pin())
	row := s.status(h1)[s.vip.String()]
	require.Equal(t, "free", row["state"])
	require.Contains(t, row["note"], "released by "+h1.Name)
	require.Contains(t, row["note"], "pinned to nobody")

	lock := s.consulLock(h3)
	s.eventually(soon, lock.holds)
	lock.end()
	s.eventually(soon, func() error {
		if state := s.status(h1)[s.vip.String()]["state"]; state != "free" {
			return fmt.Errorf("it is %v", state)
		}
		return nil
	})
	s.elapse(within)
	require.NoError(t, s.unbound(t.Context()), "nobody takes it yet")

	code, out, objection = s.run(h3, "unpin", s.vip.String())
	require.Zero(t, code, objection)
	t.Log(out)
	require.Regexp(t, fmt.Sprintf(`^%s: nobody -> h\d in .*, no longer pinned\n$`, s.vip), out)
	s.takenOver(nil)
	for _, p := range procs {
		require.True(t, p.Running())
	}
}

// TestDrainByCommand drains the owner of three addresses of four, one of which
// nobody else can take.
func TestDrainByCommand(t *testing.T) {
	var vips []netip.Addr
	for i := range 3 {
		vips = append(vips, netip.AddrFrom4([4]byte{10, 77, 8, byte(10 + i)}))
	}
	s := newSceneOf(t, sharedWorld(t), 10*time.Millisecond, vips...)
	h1, h2 := s.Servers[0], s.Servers[1]
	first := s.startOn(config{}, h1)[0]
	s.eventually(soon, s.allBound)
	second := s.start(h2, config{})
	s.eventually(soon, func() error { return s.enrolled(h2) })
	_, err := s.asked.API.KV().Put(&api.KVPair{Key: s.name + "/" + vips[2].String() + "/pin", Value: []byte(h1.Name)}, nil)
	require.NoError(t, err)

	code, out, objection := s.run(h1, "drain") // of the agent's own node
	t.Log(out, objection)
	require.Equal(t, 1, code)
	for _, vip := range vips[:2] {
		require.Regexp(t, fmt.Sprintf(`(?m)^%s: %s -> %s in \d+ ms$`, vip, h1.Name, h2.Name), out)
	}
	require.Contains(t, objection, fmt.Sprintf("%s keeps %s (pinned to %s)", h1.Name, vips[2], h1.Name))
	s.eventually(within, func() error { return s.onlyOn(h1, vips[2]) })

	code, out, objection = s.run(h2, "unpin", vips[2].String())
	require.Zero(t, code, objection)
	t.Log(out)
	s.eventually(soon, func() error { return s.onlyOn(h1) })

	// It is drained after a restart as well, and the others' end does not change that.
	require.NoError(t, first.Signal(syscall.SIGTERM))
	s.exits(first, 0, 4*time.Second)
	first = s.start(h1, config{})
	s.eventually(soon, func() error { return s.enrolled(h1) })
	require.NoError(t, second.Signal(syscall.SIGTERM))
	s.exits(second, 0, 4*time.Second)
	s.elapse(within)
	require.NoError(t, s.onlyOn(h1))
	row := s.status(h2)[vips[0].String()]
	require.Equal(t, "free", row["state"])
	require.Contains(t, row["note"], "whoever is there is drained")

	for _, want := range []string{h1.Name + " may take addresses again", h1.Name + " was not drained"} {
		code, out, objection = s.run(h2, "undrain", "-node="+h1.Name)
		require.Zero(t, code, objection)
		require.Contains(t, out, want)
	}
	s.eventually(soon, s.allBound)
	require.True(t, first.Running())
}

// TestDrainBeforehand drains a node that is not there.
func TestDrainBeforehand(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startOn(config{}, s.Servers[0])
	code, out, objection := s.run(procs[0].Host, "drain", "-node=h9")
	require.Zero(t, code, objection)
	require.Contains(t, out, "There is no instance h9 now; there are: "+procs[0].Host.Name)
	require.NoError(t, s.ownedBy(procs[0].Host))
}

// onlyOn objects unless the host has exactly these of the addresses.
func (s *scene) onlyOn(h *lab.Host, vips ...netip.Addr) error {
	var has []netip.Addr
	for vip, hosts := range s.bound(s.t.Context()) {
		if slices.Contains(hosts, h) {
			has = append(has, vip)
		}
	}
	if len(has) != len(vips) || (len(vips) == 1 && has[0] != vips[0]) {
		return fmt.Errorf("%s has %v, not %v", h.Name, has, vips)
	}
	return nil
}

// rows are the states that "status -watch -json" has printed so far.
func rows(t *testing.T, p *lab.Process) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(p.String()) {
		var now []map[string]any
		if strings.HasSuffix(line, "\n") && strings.HasPrefix(line, "[") {
			require.NoError(t, json.Unmarshal([]byte(line), &now))
			all = append(all, now...)
		}
	}
	return all
}

// TestStatusWatch follows an address from one node to another and to nobody.
func TestStatusWatch(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startOn(config{}, s.Servers[:2]...)
	h1, h2, h3 := procs[0].Host, procs[1].Host, s.Servers[2]
	watch, err := h3.Start(lab.Command{Args: []string{s.binary, "status", "-watch", "-json", "-prefix=" + s.name}})
	require.NoError(t, err)
	table, err := h3.Start(lab.Command{Args: []string{s.binary, "status", "-watch", "-prefix=" + s.name}})
	require.NoError(t, err)
	shows := func(state string, h *lab.Host) {
		t.Helper()
		s.eventually(soon, func() error {
			all := rows(t, watch)
			if n := len(all); n == 0 || all[n-1]["state"] != state || (h != nil && all[n-1]["node"] != h.Name) {
				return fmt.Errorf("it does not show %s of %v: %s", state, h, watch)
			}
			return nil
		})
	}
	shows("held", h1)
	code, _, _ := s.run(h3, "status")
	require.Zero(t, code)

	_, _, objection := s.run(h3, "move", s.vip.String())
	require.Empty(t, objection)
	shows("held", h2)
	for _, p := range []*lab.Process{procs[0], procs[1]} {
		require.NoError(t, p.Signal(syscall.SIGTERM))
		s.exits(p, 0, 4*time.Second)
	}
	shows("free", nil)
	code, out, objection := s.run(h3, "status")
	require.Equal(t, 1, code)
	require.Contains(t, out, "pinned to "+h2.Name+", which is not there")
	require.Contains(t, objection, "nobody has "+s.vip.String())

	s.eventually(within, func() error {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(s.vip.String()) + ` +free `).MatchString(table.String()) {
			return errors.New("the table does not show it")
		}
		return nil
	})
	require.Regexp(t, `^VIP .*\n.* held +`+h1.Name+` .*\n\nVIP `, table.String(), "one table after the other")
	require.NotContains(t, table.String(), "\x1b")
	require.NoError(t, watch.Signal(syscall.SIGTERM))
	require.NoError(t, table.Signal(syscall.SIGINT))
	s.exits(watch, 0, within)
	s.exits(table, 0, within)
}

// TestStatusWatchWithoutConsul goes on where there is no Consul.
func TestStatusWatchWithoutConsul(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	watch, err := s.Servers[0].Start(lab.Command{Args: []string{s.binary, "status", "-watch", "-http-addr=127.0.0.1:1"}})
	require.NoError(t, err)
	s.eventually(soon, func() error {
		if !strings.Contains(watch.String(), "trying again") {
			return errors.New("it does not say that Consul does not answer")
		}
		return nil
	})
	require.NoError(t, watch.Signal(syscall.SIGTERM))
	s.exits(watch, 0, within)
	require.Equal(t, 1, strings.Count(watch.String(), "\n"), "it says so once: %s", watch)
}

// TestTheOwnerSeenFromConsul reads the lock as operators do, in all its states.
func TestTheOwnerSeenFromConsul(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	h1, h2 := s.Servers[0], s.Servers[1]
	var r record
	is := func(state, node, note string) {
		t.Helper()
		row := s.status(h2)[s.vip.String()]
		require.Equal(t, state, row["state"])
		require.Equal(t, node, fmt.Sprint(row["node"]))
		require.Contains(t, fmt.Sprint(row["note"]), note)
	}

	p := s.startOn(config{}, h1)[0]
	require.NoError(t, json.Unmarshal([]byte(s.kvGet(h2)), &r))
	require.Equal(t, record{State: "held", Node: h1.Name, Interface: "eth0", MAC: h1.MAC.String(), Since: r.Since, Session: s.session(), TTL: r.TTL}, r)
	is("held", h1.Name, "")

	require.NoError(t, p.Signal(syscall.SIGTERM))
	s.exits(p, 0, 4*time.Second)
	r = record{}
	require.NoError(t, json.Unmarshal([]byte(s.kvGet(h2)), &r))
	require.Equal(t, record{State: "released", Node: h1.Name, Reason: r.Reason}, r)
	is("free", "<nil>", "released by "+h1.Name+": stopped by signal: terminated; nobody is there")

	p = s.startOn(config{}, h1)[0]
	held := s.kvGet(h2)
	require.NoError(t, p.Kill())
	s.eventually(soon, func() error {
		if s.status(h2)[s.vip.String()]["state"] != "free" {
			return errors.New("the session of the dead one has not ended")
		}
		return nil
	})
	require.Equal(t, held, s.kvGet(h2), "a crash leaves the record as it was")
	is("free", "<nil>", h1.Name+" ended without releasing it; nobody is there")

	lock := s.consulLock(h1)
	s.eventually(soon, lock.holds)
	require.Empty(t, s.kvGet(h2))
	is("foreign", h1.Name, "Consul lock for")
	lock.end()
	s.eventually(soon, func() error {
		if pair, _, err := s.asked.API.KV().Get(s.key(s.vip), nil); err != nil || pair != nil {
			return errors.Join(err, errors.New("the lock is still there"))
		}
		return nil
	})
}
