package simulation

import (
	"net/netip"
	"time"
)

// latency is how long a frame is under way at least, and at most without a fault.
const (
	minLatency = 20 * time.Microsecond
	maxLatency = 200 * time.Microsecond
)

// station is a machine with a MAC on the segment. Its methods are called with the
// network's mutex held.
type station interface {
	address() mac
	// listening reports whether frames reach the station.
	listening() bool
	// receive handles a frame that is addressed to the station or to a group.
	receive(frame)
}

// segment is an Ethernet segment: a switch and everything that can be wrong with it.
// The network's mutex guards it.
type segment struct {
	net      *network
	stations []station

	// Faults. The zero values are those of a faultless segment.
	noise     float64       // the probability that a frame does not reach a receiver, as long as the cluster exists
	loss      float64       // the probability while the fault lasts
	duplicate float64       // the probability that a frame reaches a receiver twice
	delay     time.Duration // frames are late by up to this much
	cut       map[[2]mac]int
	sides     map[mac]bool // stations that are separated from the others
	stalled   bool         // no frame gets through

	arrival map[flow]time.Time // of the last frame
}

// flow is a sequence of frames whose order a switch keeps (IEEE 802.1Q, section 6.5.3):
// those of one station to one destination, at one receiver. All groups count as one. A
// multicast may overtake a unicast, which happens only while frames are late.
type flow struct{ from, to, receiver mac }

func newSegment(n *network) *segment {
	return &segment{net: n, cut: map[[2]mac]int{}, sides: map[mac]bool{}, arrival: map[flow]time.Time{}}
}

// transmit sends a frame to its receivers.
func (s *segment) transmit(f frame) {
	s.net.log.add(sourceWire, "%s", f)
	s.net.sent.happens(f)
	for _, to := range s.stations {
		if to.address() == f.from || !f.to.isGroup() && f.to != to.address() {
			continue
		}
		if s.net.chance(s.noise) || s.net.chance(s.loss) {
			s.net.log.add(sourceWire, "lost for %s: %s", to.address(), f)
			continue
		}
		s.deliverLater(f, to)
		if s.net.chance(s.duplicate) {
			s.deliverLater(f, to)
		}
	}
}

// deliverLater delivers a frame after all frames before it in its flow.
func (s *segment) deliverLater(f frame, to station) {
	now, own, destination := time.Now(), to.address(), f.to
	if destination.isGroup() {
		destination = everybody
	}
	at := now.Add(s.net.between(minLatency, maxLatency) + s.net.between(0, s.delay))
	for _, flow := range []flow{{f.from, own, own}, {f.from, everybody, own}} {
		if last := s.arrival[flow]; !at.After(last) && (flow.to == destination || s.delay == 0) {
			at = last.Add(time.Microsecond)
		}
	}
	s.arrival[flow{f.from, destination, own}] = at
	time.AfterFunc(at.Sub(now), func() {
		s.net.mu.Lock()
		defer s.net.mu.Unlock()
		if to.listening() && s.connected(f.from, own) {
			to.receive(f)
		}
	})
}

// connected reports whether frames from one station reach another.
func (s *segment) connected(from, to mac) bool {
	return !s.stalled && s.sides[from] == s.sides[to] && s.cut[[2]mac{from, to}] == 0
}

// exchange reports whether frames reach two stations both ways.
func (s *segment) exchange(a, b mac) bool { return s.connected(a, b) && s.connected(b, a) }

// whole reports whether frames get through between all stations.
func (s *segment) whole() bool {
	for _, cuts := range s.cut {
		if cuts > 0 {
			return false
		}
	}
	return !s.stalled && s.loss == 0 && len(s.sides) == 0
}

// stranger is a machine that is none of the cluster's and has an address.
type stranger struct {
	net  *network
	mac  mac
	addr netip.Addr
	mute bool // it answers, and does not announce
}

func (s *stranger) address() mac    { return s.mac }
func (s *stranger) listening() bool { return s.net.strangers[s.addr] == s }

// receive answers for the address.
func (s *stranger) receive(f frame) {
	if f.operation == opRequest && f.target == s.addr {
		s.net.segment.transmit(answer(f, s.mac))
	}
}

// announce claims the address until the stranger has left, as a Linux host would with
// arping.
func (s *stranger) announce() {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.net.strangers[s.addr] != s {
		return
	}
	s.net.segment.transmit(claim(s.mac, everybody, s.addr))
	time.AfterFunc(s.net.between(500*time.Millisecond, 5*time.Second), s.announce)
}

// arrive connects the stranger to the segment.
func (s *stranger) arrive() {
	s.net.mu.Lock()
	s.net.strangers[s.addr] = s
	s.net.segment.stations = append(s.net.segment.stations, s)
	s.net.log.add("stranger", "%s arrives and has %s", s.mac, s.addr)
	s.net.client.look(s.addr)
	s.net.mu.Unlock()
	if !s.mute {
		s.announce()
	}
}

// leave disconnects the stranger.
func (s *stranger) leave() {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	delete(s.net.strangers, s.addr)
	var rest []station
	for _, other := range s.net.segment.stations {
		if other != station(s) {
			rest = append(rest, other)
		}
	}
	s.net.segment.stations = rest
	s.net.log.add("stranger", "%s leaves", s.mac)
	s.net.client.look(s.addr)
}

// forge sends one frame that claims an address, to one station or everybody.
func (s *segment) forge(addr netip.Addr, to mac) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.transmit(claim(mac{2, 0, 0, 0, 0xff, 1}, to, addr))
}
