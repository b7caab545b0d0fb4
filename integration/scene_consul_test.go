package integration

// Keys, sessions and members in Consul. On a busy machine, Consul may elect a new
// leader at any time, so every request is repeated until it succeeds.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// record is the value of a lock.
type record struct {
	State     string    `json:"state"`
	Node      string    `json:"node"`
	Interface string    `json:"interface"`
	MAC       string    `json:"mac"`
	Since     time.Time `json:"since"`
	Session   string    `json:"session"`
	TTL       string    `json:"ttl"`
	AllocID   string    `json:"alloc_id"`
	Job       string    `json:"job"`
	Reason    string    `json:"reason"`

	Before []json.RawMessage `json:"before"`
}

// settled reports whether the owner has written all that it writes about a takeover.
func (r record) settled() bool { return r.State == "held" && len(r.Before) == 0 }

// Keys below the prefix.
func lockKey(vip netip.Addr) string    { return vip.String() + "/.lock" }
func pinKey(vip netip.Addr) string     { return vip.String() + "/pin" }
func releaseKey(vip netip.Addr) string { return vip.String() + "/release" }
func memberKey(h *lab.Host) string     { return ".members/" + h.Name }
func drainKey(node string) string      { return ".drain/" + node }

// retry repeats something that is safe to repeat until it succeeds.
func (s *scene) retry(what string, do func() error) {
	s.t.Helper()
	s.await(condition{what + " to succeed", do})
}

// get reads a key below the prefix; nil if there is none.
func (s *scene) get(key string) (pair *api.KVPair) {
	s.t.Helper()
	s.retry("reading "+key, func() (err error) {
		pair, err = s.read(key)
		return err
	})
	return pair
}

// read is get without repetition, for conditions.
func (s *scene) read(key string) (*api.KVPair, error) {
	pair, _, err := s.server.API.KV().Get(s.name+"/"+key, &api.QueryOptions{RequireConsistent: true})
	return pair, err
}

// put writes a key below the prefix, as "consul kv put" does.
func (s *scene) put(key, value string) {
	s.t.Helper()
	s.retry("writing "+key, func() error {
		_, err := s.server.API.KV().Put(&api.KVPair{Key: s.name + "/" + key, Value: []byte(value)}, nil)
		return err
	})
}

// remove deletes a key below the prefix, as "consul kv delete" does.
func (s *scene) remove(key string) {
	s.t.Helper()
	s.retry("deleting "+key, func() error {
		_, err := s.server.API.KV().Delete(s.name+"/"+key, nil)
		return err
	})
}

// lock reads the lock of an address, for conditions. It is an error if there is none.
func (s *scene) lock(vip netip.Addr) (*api.KVPair, record, error) {
	var r record
	pair, err := s.read(lockKey(vip))
	if err != nil {
		return nil, r, err
	}
	if pair == nil {
		return nil, r, errors.New("no lock")
	}
	return pair, r, json.Unmarshal(pair.Value, &r)
}

// lockOf reads the lock of an address, which must exist.
func (s *scene) lockOf(vip netip.Addr) (pair *api.KVPair, r record) {
	s.t.Helper()
	s.retry("reading the lock of "+vip.String(), func() (err error) {
		pair, r, err = s.lock(vip)
		return err
	})
	return pair, r
}

// index is where the lock of an address was written last, once it is settled.
func (s *scene) index(vip netip.Addr) (index uint64) {
	s.t.Helper()
	s.retry("reading the settled lock of "+vip.String(), func() error {
		pair, r, err := s.lock(vip)
		if err == nil && !r.settled() {
			err = fmt.Errorf("%+v", r)
		}
		if err == nil {
			index = pair.ModifyIndex
		}
		return err
	})
	return index
}

// indexes returns where the lock of each address was written last.
func (s *scene) indexes() map[netip.Addr]uint64 {
	s.t.Helper()
	indexes := make(map[netip.Addr]uint64)
	for _, vip := range s.vips {
		indexes[vip] = s.index(vip)
	}
	return indexes
}

// session returns the session that holds the lock. It may belong to another program
// than consul-vip.
func (s *scene) session() string {
	s.t.Helper()
	pair := s.get(lockKey(s.vip))
	s.NotNil(pair)
	s.NotEmpty(pair.Session, "session of the lock")
	return pair.Session
}

// destroySession destroys the session that holds the lock.
func (s *scene) destroySession() {
	s.t.Helper()
	session := s.session()
	s.retry("destroying the session", func() error {
		_, err := s.server.API.Session().Destroy(session, nil)
		return err
	})
}

// sessionGone is met when Consul has no such session.
func (s *scene) sessionGone(session string) condition {
	return condition{"the session " + session + " to end", func() error {
		entry, _, err := s.server.API.Session().Info(session, &api.QueryOptions{RequireConsistent: true})
		if err == nil && entry != nil {
			err = errors.New("it is still there")
		}
		return err
	}}
}

// priorities returns the addresses that the instance of a host holds or contends
// for, with its priority for each.
func (s *scene) priorities(h *lab.Host) (map[netip.Addr]int, error) {
	pair, err := s.read(memberKey(h))
	if err != nil {
		return nil, err
	}
	if pair == nil || pair.Session == "" {
		return nil, fmt.Errorf("%s is no member", h.Name)
	}
	var member struct{ VIPs map[netip.Addr]int }
	err = json.Unmarshal(pair.Value, &member)
	return member.VIPs, err
}

// memberOn is met when the instance of a host holds or contends for every address.
func (s *scene) memberOn(h *lab.Host) condition {
	return condition{fmt.Sprintf("%s to contend for %v", h.Name, s.vips), func() error {
		contended, err := s.priorities(h)
		for _, vip := range s.vips {
			if _, ok := contended[vip]; err == nil && !ok {
				err = fmt.Errorf("its addresses %v", contended)
			}
		}
		return err
	}}
}

// memberWith is met when the instance of a host is a member with this priority for
// an address.
func (s *scene) memberWith(h *lab.Host, vip netip.Addr, priority int) condition {
	return condition{fmt.Sprintf("%s to have priority %d for %s", h.Name, priority, vip), func() error {
		vips, err := s.priorities(h)
		if got, ok := vips[vip]; err == nil && (!ok || got != priority) {
			err = fmt.Errorf("its priorities %v", vips)
		}
		return err
	}}
}

// consulReady waits until Consul is whole again. It works in a cleanup.
func (s *scene) consulReady() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
	defer cancel()
	s.NoError(s.Cluster.WaitReady(ctx))
}

// consulCLI runs a command of the Consul binary on a host.
func (s *scene) consulCLI(h *lab.Host, args ...string) {
	s.t.Helper()
	s.retry(fmt.Sprintf("%q", args), func() error {
		_, err := h.Run(s.t.Context(), lab.Command{Args: append([]string{s.Consul}, args...)})
		return err
	})
}

// consulLock is a "consul lock" of the address.
type consulLock struct {
	*lab.Process
	s     *scene
	input *os.File
}

// startConsulLock starts "consul lock" on a host and waits until it contends. Its
// command runs until release.
func (s *scene) startConsulLock(h *lab.Host) *consulLock {
	s.t.Helper()
	output, input, err := os.Pipe()
	s.NoError(err)
	s.t.Cleanup(func() { output.Close(); input.Close() })
	p := s.launch(h, "consul lock", lab.Command{
		Args:  []string{s.Consul, "lock", "-verbose", "-pass-stdin", s.name + "/" + s.vip.String(), "cat"},
		Stdin: output,
	})
	s.await(outputs(p, "Attempting lock acquisition"))
	return &consulLock{p, s, input}
}

// holds is met when it has the lock.
func (l *consulLock) holds() condition { return l.s.statusIs(l.Host, "foreign") }

// release ends the command that runs under the lock.
func (l *consulLock) release() {
	l.s.t.Helper()
	l.s.NoError(l.input.Close())
}
