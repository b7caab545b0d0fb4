package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// kvGet returns the value of the lock, as "consul kv get" prints it.
func (s *scene) kvGet(h *lab.Host) (text string) {
	s.t.Helper()
	s.retry("consul kv get", func() error {
		out, err := h.Run(s.t.Context(), lab.Command{Args: []string{s.Consul, "kv", "get", s.name + "/" + lockKey(s.vip)}})
		text = strings.TrimSpace(string(out))
		return err
	})
	return text
}

// recordPrinted is the record that "consul kv get" prints.
func (s *scene) recordPrinted(h *lab.Host) (r record) {
	s.t.Helper()
	s.NoError(json.Unmarshal([]byte(s.kvGet(h)), &r))
	return r
}

// shows requires a state, an owner and a part of the note in the status. The owner
// of a free address is "".
func (s *scene) shows(h *lab.Host, state, owner, note string) {
	s.t.Helper()
	s.await(s.statusIs(h, state))
	row := s.status(h)
	s.Equal(state, row["state"])
	s.Equal(owner, row.text("node"), "owner")
	s.Contains(row.text("note"), note)
}

// TestHeldRecord reads the record of an owner.
func TestHeldRecord(t *testing.T) {
	s := newScene(t)
	h1, h2 := s.Servers[0], s.Servers[1]
	s.startOn(config{}, h1)
	s.settled()
	r := s.recordPrinted(h2)
	s.Equal(record{
		State: "held", Node: h1.Name, Interface: "eth0", MAC: h1.MAC.String(),
		Since: r.Since, Session: s.session(), TTL: r.TTL,
	}, r)
	s.shows(h2, "held", h1.Name, "")
}

// TestReleasedRecord reads the record that a stopped owner leaves.
func TestReleasedRecord(t *testing.T) {
	s := newScene(t)
	h1, h2 := s.Servers[0], s.Servers[1]
	s.stop(s.startOn(config{}, h1)[0])
	r := s.recordPrinted(h2)
	s.Equal(record{State: "released", Node: h1.Name, Reason: r.Reason}, r)
	s.shows(h2, "free", "", "released by "+h1.Name+": stopped by signal: terminated; no members")
}

// TestRecordAfterCrash reads the record that a killed owner leaves: it is as it was.
func TestRecordAfterCrash(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	h1, h2 := s.Servers[0], s.Servers[1]
	p := s.startOn(config{}, h1)[0]
	held := s.kvGet(h2)
	s.NoError(p.Kill())
	s.await(s.statusIs(h2, "free"))
	s.Equal(held, s.kvGet(h2))
	s.shows(h2, "free", "", h1.Name+" stopped without releasing it; no members")
}

// TestRecordOfConsulLock reads the lock while "consul lock" holds it.
func TestRecordOfConsulLock(t *testing.T) {
	s := newScene(t)
	h1, h2 := s.Servers[0], s.Servers[1]
	lock := s.startConsulLock(h1)
	s.await(lock.holds())
	s.Empty(s.kvGet(h2))
	s.shows(h2, "foreign", h1.Name, "Consul lock for")
	lock.release()
	s.await(ended(lock.Process))
	s.Nil(s.get(lockKey(s.vip)), "consul lock deletes what it has created")
}

// rows are the states that "status -watch -json" has printed so far.
func (s *scene) rows(p *lab.Process) (all []row) {
	s.t.Helper()
	for line := range strings.Lines(p.String()) {
		var now []row
		if strings.HasSuffix(line, "\n") && strings.HasPrefix(line, "[") {
			s.NoError(json.Unmarshal([]byte(line), &now))
			all = append(all, now...)
		}
	}
	return all
}

// watchShows is met when the last state that "status -watch -json" has printed is
// this, with this owner. The owner of a free address is "".
func (s *scene) watchShows(watch *lab.Process, state, owner string) condition {
	return condition{fmt.Sprintf("status -watch to show %s by %q", state, owner), func() error {
		all := s.rows(watch)
		if len(all) == 0 {
			return errors.New("nothing")
		}
		if last := all[len(all)-1]; last.text("state") != state || last.text("node") != owner {
			return fmt.Errorf("%v", last)
		}
		return nil
	}}
}

// watch starts "status -watch" on a host.
func (s *scene) watch(h *lab.Host, flags ...string) *lab.Process {
	s.t.Helper()
	args := append([]string{s.ConsulVIP, "status", "-watch", "-prefix=" + s.name}, flags...)
	return s.launch(h, "status -watch", lab.Command{Args: args})
}

// TestStatusWatch follows an address from one node to another and to no node.
func TestStatusWatch(t *testing.T) {
	s := newScene(t)
	procs := s.startOn(config{}, s.Servers[:2]...)
	h1, h2, h3 := procs[0].Host, procs[1].Host, s.Servers[2]
	watch := s.watch(h3, "-json")
	s.await(s.watchShows(watch, "held", h1.Name))
	s.succeed(h3, "move", s.vip.String())
	s.await(s.watchShows(watch, "held", h2.Name))
	for _, p := range procs {
		s.stop(p)
	}
	s.await(s.watchShows(watch, "free", ""))
	s.signal(watch, syscall.SIGTERM)
	s.exits(watch, 0, soon)
}

// TestStatusWatchTable prints one table after the other, without colours.
func TestStatusWatchTable(t *testing.T) {
	s := newScene(t)
	p := s.startOn(config{}, s.Servers[0])[0]
	table := s.watch(s.Servers[2])
	prints := func(pattern string) condition {
		return condition{"output that matches " + pattern, func() error {
			if !regexp.MustCompile(pattern).MatchString(table.String()) {
				return errors.New(table.String())
			}
			return nil
		}}
	}
	vip := regexp.QuoteMeta(s.vip.String())
	s.await(prints(`^VIP .*\n` + vip + ` +held +` + p.Host.Name + ` .*\n`))
	s.stop(p)
	s.await(prints(`(?s)^VIP .*\n\nVIP .*\n` + vip + ` +free `))
	s.NotContains(table.String(), "\x1b")
	s.signal(table, syscall.SIGINT)
	s.exits(table, 0, soon)
}

// TestStatusOfPinWithoutMember has the status complain of an address that is pinned
// to a node which is gone.
func TestStatusOfPinWithoutMember(t *testing.T) {
	s := newScene(t)
	p := s.startOn(config{}, s.Servers[0])[0]
	h1, h3 := p.Host, s.Servers[2]
	s.succeed(h3, "status")
	s.put(pinKey(s.vip), h1.Name)
	s.stop(p)
	r := s.fail(h3, "status")
	s.Contains(r.stdout, "pinned to "+h1.Name+", which is not a member")
	s.Contains(r.stderr, "no owner: "+s.vip.String())
}

// TestStatusWatchWithoutConsul goes on where there is no Consul, and complains once.
func TestStatusWatchWithoutConsul(t *testing.T) {
	s := newScene(t)
	watch := s.watch(s.Servers[0], "-http-addr=127.0.0.1:1")
	s.await(outputs(watch, "trying again"))
	s.pass(calm) // some more tries
	s.signal(watch, syscall.SIGTERM)
	s.exits(watch, 0, soon)
	s.Equal(1, strings.Count(watch.String(), "\n"), "lines of %s", watch)
}
