package simulation

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// network is the segment, the kernels on it, the strangers and the client.
type network struct {
	log *journal
	// longestLifetime is how long a kernel may have an address that no process refreshes.
	longestLifetime time.Duration

	mu        sync.Mutex // guards all following fields and everything in them
	rand      *rand.Rand
	segment   *segment
	kernels   []*kernel
	strangers map[netip.Addr]*stranger
	client    *client
	excuses   []*excuse
}

func newNetwork(log *journal, seed uint64) *network {
	n := &network{log: log, rand: rand.New(rand.NewPCG(seed, 1)), strangers: map[netip.Addr]*stranger{}}
	n.segment = newSegment(n)
	n.client = newClient(n)
	return n
}

// between draws a duration. Call it with the mutex held.
func (n *network) between(low, high time.Duration) time.Duration {
	return low + time.Duration(n.rand.Int64N(int64(high-low)+1))
}

// chance is true with this probability. Call it with the mutex held.
func (n *network) chance(probability float64) bool {
	return probability > 0 && n.rand.Float64() < probability
}
