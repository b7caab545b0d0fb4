package probe

import (
	"bytes"
	"net"
	"slices"
	"time"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

// A Problem is what is wrong with an address.
type Problem string

// The problems, the worst first.
const (
	TwoOwners     Problem = "two owners"
	OtherOwner    Problem = "another owner than the record"
	BoundHere     Problem = "bound here without the lock"
	WithoutLock   Problem = "answered without a lock"
	Silence       Problem = "silence"
	NoOwner       Problem = "no owner"
	UnknownOwner  Problem = "owner not known"
	WrongNeighbor Problem = "wrong neighbor entry"
	NotAsked      Problem = "not asked"
)

// Station is a station that has an address.
type Station struct {
	MAC    net.HardwareAddr
	Node   string        // the member that it is; empty: none, or nobody has looked
	Delay  time.Duration // until it answered
	Direct bool          // it has answered a question to it alone
	Here   bool          // it is this host, which does not answer itself
}

// Result is what is known of an address.
type Result struct {
	Found
	Stations []Station
	Status   string // leasestate.StatusHeld and the like; empty: Consul was not asked
	Node     string // the owner in Consul
	Problems []Problem
}

// Several reports whether the address has more than one owner.
func (r Result) Several() bool { return slices.Contains(r.Problems, TwoOwners) }

// Alone judges an address by the answers alone: it should have one owner.
func Alone(f Found) Result {
	r := Result{Found: f, Stations: stations(f, nil)}
	switch {
	case f.Err != nil:
		r.add(NotAsked)
	case len(r.Stations) == 0:
		r.add(Silence)
	case len(r.Stations) > 1:
		r.add(TwoOwners)
	}
	return r
}

// Judge holds the answers for an address against what Consul says.
func Judge(f Found, s *leasestate.State) Result {
	r := Result{Found: f, Stations: stations(f, s)}
	name := f.Addr.String()
	r.Status, r.Node = s.Owner(name)
	if f.Err != nil {
		r.add(NotAsked)
		return r
	}
	record := agent.DecodeOwner(s.Locks[name].Record.Owner)
	rightful := func(st Station) bool {
		return r.Status == leasestate.StatusHeld && (record.Has(st.MAC) || st.Node != "" && st.Node == r.Node)
	}
	if owners(r.Stations) > 1 {
		r.add(TwoOwners)
	}
	for _, st := range r.Stations {
		switch {
		case rightful(st), r.Status == leasestate.StatusUnknown:
		case st.Here:
			r.add(BoundHere)
		case r.Status == leasestate.StatusHeld:
			r.add(OtherOwner)
		case r.Status == leasestate.StatusFree:
			r.add(WithoutLock)
		}
	}
	switch {
	case r.Status == leasestate.StatusUnknown:
		r.add(UnknownOwner)
	case r.Status == leasestate.StatusFree && len(r.Stations) == 0:
		r.add(NoOwner)
	case len(r.Stations) == 0:
		r.add(Silence)
	}
	if wrongNeighbor(f, r.Stations, s) {
		r.add(WrongNeighbor)
	}
	return r
}

// add adds a problem once.
func (r *Result) add(p Problem) {
	if !slices.Contains(r.Problems, p) {
		r.Problems = append(r.Problems, p)
	}
}

// stations are those that have the address.
func stations(f Found, s *leasestate.State) (all []Station) {
	if f.Here {
		all = append(all, Station{MAC: f.MAC, Node: agent.MemberWith(s, f.MAC), Direct: true, Here: true})
	}
	for _, a := range f.Answers {
		all = append(all, Station{MAC: a.MAC, Node: agent.MemberWith(s, a.MAC), Delay: a.Delay, Direct: a.Direct})
	}
	return all
}

// owners counts the hosts among stations: a member may answer from several MACs.
func owners(all []Station) int {
	seen := map[string]bool{}
	for _, st := range all {
		key := "MAC " + st.MAC.String()
		if st.Node != "" {
			key = "node " + st.Node
		}
		seen[key] = true
	}
	return len(seen)
}

// wrongNeighbor reports whether this host sends packets for the address to a station that
// does not have it, although another one does.
func wrongNeighbor(f Found, all []Station, s *leasestate.State) bool {
	if f.Neighbor == nil || f.Here || len(all) == 0 {
		return false
	}
	node := agent.MemberWith(s, f.Neighbor)
	return !slices.ContainsFunc(all, func(st Station) bool {
		return bytes.Equal(st.MAC, f.Neighbor) || node != "" && st.Node == node
	})
}
