package simulation

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// network is the segment, the kernels on it, the strangers and the client.
type network struct {
	log  *journal
	sent occasions[frame]
	// longestLifetime is how long a kernel may have an address that no process refreshes.
	longestLifetime time.Duration

	mu        sync.Mutex // guards all following fields and everything in them
	rand      *rand.Rand
	segment   *segment
	kernels   []*kernel
	gateway   *gateway // nil: there is none, or it is one of the hosts
	router    ownAddrs // the next hop of every host's default routes; zero: none
	strangers map[netip.Addr]*stranger
	client    *client
	sights    map[[2]*kernel]sight // by observer and host
	death     *death               // the latest one while everything else is well; nil: none
	excuses   []*excuse
}

func newNetwork(log *journal, seed uint64) *network {
	n := &network{log: log, rand: rand.New(rand.NewPCG(seed, 1)), strangers: map[netip.Addr]*stranger{}, sights: map[[2]*kernel]sight{}}
	n.segment = newSegment(n)
	n.client = newClient(n)
	return n
}

// drawSegment draws what the segment is like for as long as the cluster exists.
func (n *network) drawSegment(draw *rand.Rand) {
	switch draw.IntN(4) {
	case 0: // there is no router
	case 1:
		n.router = n.kernels[0].own
	default:
		n.gateway, n.router = newGateway(n), gatewayAddrs
	}
	n.log.add(sourceWire, "%g of all frames are lost, the router is %v", n.segment.noise, n.router)
}

// checkSender checks what a host says that it is: a host asks for another one from an
// address of its own. A probe for the address of a host would look like a duplicate of
// that (RFC 5227, section 2.4; RFC 4862, section 5.4.3).
func (n *network) checkSender(k *kernel, f frame) {
	switch {
	case f.probes() && n.isOwn(f.target):
		n.client.violated("%s probes for %s, which is the own address of a machine", k.name, f.target)
	case n.isOwn(f.sender) && (!k.own.has(f.sender) || f.senderMAC != k.mac):
		n.client.violated("%s sends as %s at %s, which it is not", k.name, f.sender, f.senderMAC)
	}
}

// isOwn reports whether a machine has an address as its own.
func (n *network) isOwn(addr netip.Addr) bool {
	return gatewayAddrs.has(addr) || slices.ContainsFunc(n.kernels, func(k *kernel) bool { return k.own.has(addr) })
}

// between draws a duration. Call it with the mutex held.
func (n *network) between(low, high time.Duration) time.Duration {
	return low + time.Duration(n.rand.Int64N(int64(high-low)+1))
}

// chance is true with this probability. Call it with the mutex held.
func (n *network) chance(probability float64) bool {
	return probability > 0 && n.rand.Float64() < probability
}
