package agent

import (
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/lease"
)

// dead is an owner whose host does not answer on the wire. Its lock may be taken.
type dead struct {
	session string    // the owner's
	since   time.Time // when the host was heard last
	found   time.Time // when it counted as dead
}

// victim is the owner from which this host has taken the lock.
type victim struct {
	node string
	host announcer.Host
	dead dead
	sure bool // the write that took the lock was answered, and nobody else was before
}

// setDead says that the owner of the address is dead, or with nil that it is not. Only
// the loop calls it.
func (v *vip) setDead(d *dead) {
	before := v.dead.Swap(d)
	if (before == nil) != (d == nil) || (d != nil && before.session != d.session) {
		v.update()
	}
}

// deadSession is the session from which the lock may be taken; empty: none.
func (v *vip) deadSession() string {
	if d := v.dead.Load(); d != nil {
		return d.session
	}
	return ""
}

// victimOf returns from whom this host has taken a lock.
func (v *vip) victimOf(held *lease.Held) *victim {
	n := &victim{node: held.TookFrom, host: DecodeOwner(held.Previous.Owner).host()}
	if d := v.dead.Load(); d != nil && d.session == held.Previous.Session {
		n.dead, n.sure = *d, held.Answered && len(held.Before) == 1
	}
	return n
}

// doubt notes that the victim may have the address, or somebody else: from here on only
// a proof counts. There may be no victim.
func (n *victim) doubt() {
	if n != nil {
		n.sure = false
	}
}

// stillDead reports whether the lock was taken from a host that certainly had the
// address, alone, and has not been heard since it counted as dead: then there is
// nobody to ask.
func (v *vip) stillDead(t tenure) bool {
	if t.victim == nil || !t.victim.sure {
		return false
	}
	for _, mac := range t.victim.host.MACs {
		if v.link.wire.HeardSince(mac, t.victim.dead.since) {
			return false
		}
	}
	return true
}
