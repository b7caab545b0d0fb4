package simulation

import (
	"slices"
	"time"
)

// sight is whether one host can take another one for dead: it hears nothing of it, and
// hears somebody else. The network's mutex guards it.
type sight struct {
	dead bool
	last time.Duration // when it was dead last
}

// look is called after each change of what stations hear of each other.
func (n *network) look() {
	now := n.log.elapsed()
	for _, observer := range n.kernels {
		for _, k := range n.kernels {
			pair := [2]*kernel{observer, k}
			s := n.sights[pair]
			if dead := n.seemsDead(observer, k); dead || s.dead {
				n.sights[pair] = sight{dead, now}
			}
		}
	}
	n.client.lookAll()
}

// missed reports whether k seemed dead to observer within that time.
func (n *network) missed(observer, k *kernel, within time.Duration) bool {
	s := n.sights[[2]*kernel{observer, k}]
	return s.dead || s.last > 0 && n.log.elapsed()-s.last <= within
}

// everMissed reports whether k ever seemed dead to anybody.
func (n *network) everMissed(k *kernel) bool {
	return slices.ContainsFunc(n.kernels, func(observer *kernel) bool { return n.sights[[2]*kernel{observer, k}].last > 0 })
}

func (n *network) seemsDead(observer, k *kernel) bool {
	if n.segment.loss > 0 {
		return true // anything may
	}
	witnessed := n.gateway != nil && n.gateway.on && n.segment.exchange(observer.mac, n.gateway.mac)
	for _, other := range n.kernels {
		if other != k && other != observer {
			witnessed = witnessed || n.hears(observer, other)
		}
	}
	return witnessed && observer.egress == egressSent && observer.listening() && !n.hears(observer, k)
}

// hears reports whether a host gets answers of another one.
func (n *network) hears(observer, k *kernel) bool {
	return k.listening() && k.egress != egressDrop && n.segment.exchange(observer.mac, k.mac)
}
