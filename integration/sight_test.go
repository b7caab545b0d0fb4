package integration

// What a test sees: on the hosts, on the wire, in Consul and in the logs.

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// inState objects unless every address of the process was last logged to be in
// this state.
func inState(p *lab.Process, want string) error {
	if !p.Running() {
		return fmt.Errorf("the process on %s has ended", p.Host.Name)
	}
	states := make(map[string]string)
	for _, e := range p.Entries() {
		if e.Message() == "state changed" {
			states[e.Get("vip")] = e.Get("state")
		}
	}
	for vip, state := range states {
		if state != want {
			return fmt.Errorf("%s is in state %q on %s, not %q", vip, state, p.Host.Name, want)
		}
	}
	if len(states) == 0 {
		return fmt.Errorf("no state on %s yet", p.Host.Name)
	}
	return nil
}

// ownedBy objects unless this host, and it alone, has the address: by "ip
// address", by what the client sees, and by Consul's KV.
func (s *scene) ownedBy(h *lab.Host) error {
	hosts := s.bound(s.t.Context())[s.vip]
	if len(hosts) != 1 || hosts[0] != h {
		return fmt.Errorf("%d hosts have the address bound, %s is not the only one", len(hosts), h.Name)
	}
	if by := s.ping.AnsweredBy(); by != h.Name {
		return fmt.Errorf("the client is answered by %q, not by %s", by, h.Name)
	}
	pair, record, err := s.record(s.vip)
	if err != nil {
		return err
	}
	if record.State != "held" || record.Node != h.Name || pair.Session == "" {
		return fmt.Errorf("the record is %s, with session %q", pair.Value, pair.Session)
	}
	return nil
}

// owner returns which host owns the address now, or nil.
func (s *scene) owner() *lab.Host {
	for _, h := range s.Servers {
		if s.ownedBy(h) == nil {
			return h
		}
	}
	return nil
}

// takenOver waits until a host other than old owns the address and returns it.
func (s *scene) takenOver(old *lab.Host) *lab.Host {
	s.t.Helper()
	var owner *lab.Host
	s.eventually(2*soon, func() error {
		if owner = s.owner(); owner == nil || owner == old {
			return errors.New("nobody else owns the address")
		}
		return nil
	})
	return owner
}

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
}

func (s *scene) key(vip netip.Addr) string { return s.name + "/" + vip.String() + "/.lock" }

// record returns the lock of an address.
func (s *scene) record(vip netip.Addr) (*api.KVPair, record, error) {
	var r record
	pair, _, err := s.asked.API.KV().Get(s.key(vip), &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		return nil, r, err
	}
	if pair == nil {
		return nil, r, errors.New("there is no lock")
	}
	return pair, r, json.Unmarshal(pair.Value, &r)
}

// contended returns the addresses that a host's instance has or contends for, as
// a member with its priority for each.
func (s *scene) contended(h *lab.Host) (map[netip.Addr]int, error) {
	pair, _, err := s.asked.API.KV().Get(s.name+"/.members/"+h.Name, &api.QueryOptions{RequireConsistent: true})
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

// enrolled objects unless the host's instance has or contends for the address.
func (s *scene) enrolled(h *lab.Host) error {
	vips, err := s.contended(h)
	if _, ok := vips[s.vip]; err == nil && !ok {
		return fmt.Errorf("%s does not contend for the address", h.Name)
	}
	return err
}

// seen requires that the observer and the client saw exactly these hosts own the
// address, in this order.
func (s *scene) seen(hosts ...*lab.Host) {
	s.t.Helper()
	s.inOrder(s.witness.Owned, hosts, "owners seen by the observer")
	require.Equal(s.t, names(hosts), s.ping.Report().Hosts(), "owners seen by the client")
}

// announced requires that exactly these hosts announced the address, in this order.
func (s *scene) announced(hosts ...*lab.Host) {
	s.t.Helper()
	s.inOrder(s.witness.Announced, hosts, "who announced the address")
}

// inOrder requires that what the observer took down is about exactly these hosts.
// Its next question, or the next announcement, may still be due.
func (s *scene) inOrder(taken func(netip.Addr) []lab.Reign, hosts []*lab.Host, what string) {
	s.t.Helper()
	s.eventually(within, func() error {
		if n := len(taken(s.vip)); n < len(hosts) {
			return fmt.Errorf("%s: only %d so far", what, n)
		}
		return nil
	})
	require.Equal(s.t, names(hosts), lab.HostsOf(taken(s.vip)), what)
}

func names(hosts []*lab.Host) []string {
	var list []string
	for _, h := range hosts {
		list = append(list, h.Name)
	}
	return list
}

// logged returns the log lines with this message.
func logged(p *lab.Process, message string) []lab.Entry {
	var found []lab.Entry
	for _, e := range p.Entries() {
		if e.Message() == message {
			found = append(found, e)
		}
	}
	return found
}

// status returns what "consul-vip status -json" prints on a host, whether each
// address has an owner or not.
func (s *scene) status(h *lab.Host) map[string]map[string]any {
	s.t.Helper()
	_, out, _ := s.run(h, "status", "-json")
	var rows []map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(out), &rows))
	byVIP := make(map[string]map[string]any)
	for _, row := range rows {
		byVIP[row["vip"].(string)] = row
	}
	return byVIP
}
