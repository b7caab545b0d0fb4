package announcer

import (
	"bytes"
	"net"
	"time"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// suspectKind says why a station may have the address, and what proves that it does not.
type suspectKind int

const (
	owner    suspectKind = iota // a host that had it: answers or silence of the host
	stranger                    // it claimed the address: a short silence; an answer ends the proof
	lead                        // an answer named its MAC: silence; an answer to a probe of its own makes it an owner
)

// A suspect is a station that may have the address. Each has a goroutine.
type suspect struct {
	kind     suspectKind // of a lead guarded by proving.mu, else constant
	host     Host        // without MACs of this host; without MACs: somebody unknown
	neighbor *neighbor   // nil: its own address cannot be asked for
	news     latest.Wake // set after every answer, and when all is proved

	// Guarded by proving.mu.
	answers   int              // claims of the address
	mac       net.HardwareAddr // of the last one
	cleared   bool             // proved not to have the address, in this way
	clearedBy ProofBy
	clearedIn int       // rounds
	clearedAt time.Time // when the last one began

	// The goroutine of the suspect owns all following fields.
	witnesses      *witnesses
	seen           int // of the answers
	has            bool
	evidence       evidence
	rounds         int
	round          time.Time // when the last one began
	sinceBroadcast int       // rounds; 0: none since it last had the address
	unsentSince    time.Time // the first of the frames that could not be sent; zero: the last one was sent
}

// target returns the MAC to send probes to.
func (s *suspect) target() net.HardwareAddr {
	if len(s.host.MACs) == 0 {
		return broadcast
	}
	return s.host.MACs[0]
}

func (s *suspect) unknown() bool { return len(s.host.MACs) == 0 }

// suspectsOf returns the suspects of a call: its owners and strangers, or somebody
// unknown if there are none. A probe to a MAC of this host would prove nothing; of an
// owner with no other MAC, broadcasts must prove that it is gone.
func (w *Wire) suspectsOf(c ProofConfig) []*suspect {
	var all []*suspect
	for _, h := range c.Owners {
		s := &suspect{kind: owner, host: Host{Addr: h.Addr.Unmap()}, news: latest.NewWake()}
		for _, mac := range h.MACs {
			if IsStation(mac) && !w.mayBeOwn(mac) {
				s.host.MACs = append(s.host.MACs, bytes.Clone(mac))
			}
		}
		if !s.unknown() && w.family.has(s.host.Addr) && w.family.has(c.Source) {
			s.neighbor = w.neighbors.of(s.host, c.Source)
		}
		all = append(all, s)
	}
	for _, mac := range c.Strangers {
		if IsStation(mac) && !w.mayBeOwn(mac) {
			all = append(all, &suspect{kind: stranger, host: Host{MACs: []net.HardwareAddr{bytes.Clone(mac)}}, news: latest.NewWake()})
		}
	}
	if len(all) == 0 {
		all = append(all, &suspect{kind: owner, news: latest.NewWake()})
	}
	return all
}
