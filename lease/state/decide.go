package state

import (
	"errors"
	"fmt"
	"time"
)

// Reasons why a member may not have a lock, or should not keep it.
var (
	// ErrPreempted: a better placed member is available.
	ErrPreempted = errors.New("a better placed member is available")
	// ErrPinned: an operator has pinned the lock to another node.
	ErrPinned = errors.New("pinned to that node")
	// ErrDrained: an operator has drained the node.
	ErrDrained = errors.New("this node is drained")
	// ErrRequested: an operator has requested the release.
	ErrRequested = errors.New("release requested")
	// ErrUnfit: the service behind the lock is not fit there.
	ErrUnfit = errors.New("the service is not fit")
	// ErrNobody: an operator has pinned the lock to nobody.
	ErrNobody = errors.New("pinned to nobody")
)

// Ineligible is why node must not contend for a lock, or nil if s shows no reason. A
// [State.Filtered] list may lack the key that is one; then a token of least privilege
// would take no lock at all if that counted.
func (s *State) Ineligible(name, node string) error {
	switch pin := s.Pin(name); {
	case s.Drained(node):
		return ErrDrained
	case pin == Nobody:
		return ErrNobody
	case pin != "" && pin != node:
		return fmt.Errorf("pinned to %s", pin)
	}
	return nil
}

// Transfer is where a held lock should go.
type Transfer struct {
	To      Candidate     // the zero Candidate: no member can take the lock
	Reason  error         // nil: the lock stays where it is
	Delay   time.Duration // how long the reason must hold first
	Request uint64        // the ModifyIndex of the release request to accept first; 0: none
}

// Equal reports whether both move the lock to the same session for the same
// reason. The delay may differ.
func (t Transfer) Equal(o Transfer) bool {
	return t.Reason == o.Reason && t.To.Session == o.To.Session && t.Request == o.Request
}

// Transfer decides where the lock that node holds should go. An operator's release
// request, pin or drain comes before the ranking, and so does fitness: an owner that is
// not fit gives the lock to a member that is. With a preemptDelay of 0 a better placed
// member is no other reason to move the lock.
func (s *State) Transfer(name, node string, preemptDelay time.Duration) Transfer {
	to, other := s.Successor(name, node)
	pin := s.Pin(name)
	request, requested := s.Requests[name]
	switch {
	case requested && request.Node == node:
		return Transfer{To: to, Reason: ErrRequested, Request: request.Index}
	case pin != "" && pin != node && other:
		return Transfer{To: to, Reason: ErrPinned}
	case s.Drained(node) && other:
		return Transfer{To: to, Reason: ErrDrained}
	case pin != "" || s.Drained(node):
		return Transfer{}
	case s.Members[node].IsUnfit(name) && other && !s.Members[to.Node].IsUnfit(name):
		return Transfer{To: to, Reason: ErrUnfit}
	case preemptDelay == 0:
		return Transfer{}
	}
	if r := s.rankings.ideal(); r.position(name, node) > 0 {
		return Transfer{To: r[name][0], Reason: ErrPreempted, Delay: preemptDelay}
	}
	return Transfer{}
}
