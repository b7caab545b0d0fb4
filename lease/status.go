package lease

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// The states of a lock as seen from outside.
const (
	StatusHeld    = "held"    // an instance holds it
	StatusForeign = "foreign" // another program does, such as `consul lock`
	StatusFree    = "free"    // nobody does
)

// Status is a lock as it is seen from Consul alone.
type Status struct {
	VIP       string     `json:"vip"`
	State     string     `json:"state"`
	Node      string     `json:"node,omitempty"`
	Interface string     `json:"interface,omitempty"`
	MAC       string     `json:"mac,omitempty"`
	Since     *time.Time `json:"since,omitempty"`
	Session   string     `json:"session,omitempty"`
	AllocID   string     `json:"alloc_id,omitempty"`
	Job       string     `json:"job,omitempty"`
	// Note says in words what the fields do not: the name of a foreign session,
	// or how a free lock came to be free.
	Note string `json:"note,omitempty"`
}

// List reads the state of every lock below prefix, ordered by address. It needs
// read access to the keys, and to sessions for the name of a foreign one.
func List(ctx context.Context, client *api.Client, prefix string) ([]Status, error) {
	prefix = strings.Trim(prefix, "/")
	pairs, _, err := client.KV().List(prefix+"/", query(ctx))
	if err != nil {
		return nil, fmt.Errorf("reading %s/: %w", prefix, err)
	}
	out := []Status{}
	for _, p := range pairs {
		name, base, ok := cutLast(strings.TrimPrefix(p.Key, prefix+"/"))
		if ok && base == lockName {
			out = append(out, statusOf(ctx, client, name, p))
		}
	}
	slices.SortFunc(out, compareVIPs)
	return out, nil
}

// compareVIPs orders addresses as numbers, and what is none after them.
func compareVIPs(a, b Status) int {
	x, errX := netip.ParseAddr(a.VIP)
	y, errY := netip.ParseAddr(b.VIP)
	switch {
	case errX == nil && errY == nil:
		return x.Compare(y)
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	}
	return cmp.Compare(a.VIP, b.VIP)
}

func endedWithout(r Record) string {
	if r.Reason != "" {
		return fmt.Sprintf("%s gave it up: %s", r.Node, r.Reason)
	}
	return fmt.Sprintf("%s ended without releasing it", r.Node)
}

func statusOf(ctx context.Context, client *api.Client, name string, p *api.KVPair) Status {
	r := ParseRecord(p.Value)
	switch {
	case p.Session == "" && r.State == StateReleased:
		return Status{VIP: name, State: StatusFree, Note: fmt.Sprintf("released by %s: %s", r.Node, r.Reason)}
	case p.Session == "" && r.State != StateUnknown:
		return Status{VIP: name, State: StatusFree, Note: endedWithout(r)}
	case p.Session == "":
		return Status{VIP: name, State: StatusFree}
	case p.Session == r.Session && r.State == StateHandover:
		return Status{VIP: name, State: StatusHeld, Node: r.Node, Session: p.Session, Note: "being handed over by " + r.From}
	case p.Session == r.Session:
		return Status{
			VIP: name, State: StatusHeld, Node: r.Node, Interface: r.Interface, MAC: r.MAC,
			Since: r.Since, Session: p.Session, AllocID: r.AllocID, Job: r.Job,
		}
	}
	s := Status{VIP: name, State: StatusForeign, Session: p.Session}
	// The answer is whole without the session's name and node.
	if entry, _, err := client.Session().Info(p.Session, query(ctx)); err == nil && entry != nil {
		s.Node, s.Note = entry.Node, entry.Name
	}
	return s
}
