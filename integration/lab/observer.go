package lab

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// questions is the number of sender addresses that the observer uses in turn, so that
// an answer's target tells which question it answers. Each becomes an entry in the
// neighbour cache of the host that answers, and all namespaces of a machine share a
// limit of 1024 entries.
const questions = 64

// Observer asks all hosts on the segment at an interval which of them has each of
// some addresses. It records which hosts answer and which hosts claim an address
// unasked, and so proves that no address ever has two owners. All methods are safe
// for concurrent use, except that Stop must be called once.
type Observer struct {
	host  *Host
	addrs []netip.Addr
	wires map[bool]*packetSocket // of IPv6 or not

	quit chan struct{} // closed by Stop
	done sync.WaitGroup

	mu      sync.Mutex // guards what the map's values hold; the map does not change
	watched map[netip.Addr]*watched
}

// watched is what the observer knows of one address.
type watched struct {
	asked     int // number of questions so far
	owned     []Reign
	announced []Reign
	doubles   []Double
	released  *ARP // the last frame of a handover that was broadcast
	// answers names the hosts that answered the newest question of each sender address.
	answers [questions][]string
}

// Double is a question that two hosts answered.
type Double struct {
	Addr  netip.Addr
	At    time.Time // of the second answer
	Hosts []string  // named as in Reign, in the order of their answers
}

// NewObserver starts to ask for all of addrs, for each at this interval. Stop must be
// called to end it.
func (h *Host) NewObserver(every time.Duration, addrs ...netip.Addr) (*Observer, error) {
	o := &Observer{
		host: h, addrs: addrs, wires: map[bool]*packetSocket{}, quit: make(chan struct{}), watched: make(map[netip.Addr]*watched),
	}
	for _, addr := range addrs {
		o.watched[addr] = new(watched)
	}
	for is6, etherType := range map[bool]uint16{false: unix.ETH_P_ARP, true: unix.ETH_P_IPV6} {
		if !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Is6() == is6 }) {
			continue
		}
		wire, err := h.openPacket(serviceInterface, etherType)
		if err != nil {
			return nil, errors.Join(err, o.close())
		}
		o.wires[is6] = wire
	}
	for is6, wire := range o.wires {
		read := o.readARP
		if is6 {
			read = o.readNDP
		}
		o.done.Go(func() { receive(wire, read) })
	}
	o.done.Go(func() { pace(every/time.Duration(len(addrs)), o.quit, o.asker()) })
	return o, nil
}

// asker returns a function that asks for one address after the other.
func (o *Observer) asker() func() {
	next := 0
	return func() {
		addr := o.addrs[next%len(o.addrs)]
		next++
		o.mu.Lock()
		w := o.watched[addr]
		number := w.asked % questions
		w.asked++
		w.answers[number] = nil
		o.mu.Unlock()
		// A question that could not be sent gets no answer; the next one follows soon.
		_ = o.wires[addr.Is6()].write(question(o.host.MAC, addr, number))
	}
}

// question encodes the question for an address that has this number.
func question(mac net.HardwareAddr, addr netip.Addr, number int) []byte {
	if addr.Is6() {
		return Solicitation(mac, askFrom6(number), addr).Frame()
	}
	return ARP{Operation: ARPRequest, SenderMAC: mac, SenderIP: askFrom(number), TargetIP: addr}.Frame()
}

// askFrom returns the sender address of the questions with this number. No machine of
// the lab has it, and that matters: a question from an address of the client would be
// answered to the client, and the answer would teach the client's neighbour cache which
// host owns the floating address (RFC 826, packet reception). The answer goes to the
// asker's hardware address alone, so the client learns nothing from the observer, and
// what it sees is only the work of consul-vip's announcements and its own resolution.
// TestObserverTeachesTheClientNothing shows both.
func askFrom(number int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, 254, byte(1 + number)})
}

// askFrom6 is askFrom for IPv6.
func askFrom6(number int) netip.Addr {
	a := netip.MustParseAddr("fe80::254:0").As16()
	a[15] = byte(1 + number)
	return netip.AddrFrom16(a)
}

// receive reads frames until the socket is closed.
func receive(wire *packetSocket, read func(frame []byte, at time.Time)) {
	buf := make([]byte, 2048)
	for {
		frame, at, err := wire.read(buf)
		if err != nil {
			return
		}
		read(frame, at)
	}
}

func (o *Observer) readARP(frame []byte, at time.Time) {
	switch a, ok := parseARP(frame); {
	case !ok:
	case o.watched[a.SenderIP] != nil && a.TargetIP == a.SenderIP:
		o.recordClaim(a.SenderIP, a.SenderMAC, at)
	case o.watched[a.SenderIP] != nil && a.Operation == ARPReply:
		o.recordAnswer(a.SenderIP, a.SenderMAC, int(a.TargetIP.As4()[3])-1, a.TargetIP, at)
	case o.watched[a.TargetIP] != nil && a.SenderIP.IsUnspecified():
		o.recordProbe(a)
	}
}

func (o *Observer) readNDP(frame []byte, at time.Time) {
	mac, addr, to, ok := parseAdvertisement(frame)
	switch {
	case !ok || o.watched[addr] == nil:
	case to == allNodes:
		o.recordClaim(addr, mac, at)
	default:
		o.recordAnswer(addr, mac, int(to.As16()[15])-1, to, at)
	}
}

// recordClaim records that a host claims an address unasked.
func (o *Observer) recordClaim(addr netip.Addr, mac net.HardwareAddr, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.watched[addr]
	w.announced = extend(w.announced, o.host.segment.nameOf(mac), at)
}

// recordAnswer records an answer to the question with this number, if there is such a
// question from the address to.
func (o *Observer) recordAnswer(addr netip.Addr, mac net.HardwareAddr, number int, to netip.Addr, at time.Time) {
	if number < 0 || number >= questions || to != askFrom(number) && to != askFrom6(number) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watched[addr].answer(addr, number, o.host.segment.nameOf(mac), at)
}

// recordProbe records a probe if it carries the nonce of a handover.
func (o *Observer) recordProbe(a ARP) {
	if bytes.Equal(a.TargetMAC, make(net.HardwareAddr, 6)) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watched[a.TargetIP].released = &ARP{
		Operation: a.Operation, SenderMAC: bytes.Clone(a.SenderMAC), SenderIP: a.SenderIP,
		TargetMAC: bytes.Clone(a.TargetMAC), TargetIP: a.TargetIP,
	}
}

// Released returns the last frame by which an owner told everybody that it had released
// an address in a handover; nil: there was none.
func (o *Observer) Released(addr netip.Addr) *ARP {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.watched[addr].released
}

// answer records an answer. Several answers by one host count once: a host with two
// interfaces on the segment answers on both.
func (w *watched) answer(addr netip.Addr, number int, host string, at time.Time) {
	if slices.Contains(w.answers[number], host) {
		return
	}
	w.answers[number] = append(w.answers[number], host)
	w.owned = extend(w.owned, host, at)
	if len(w.answers[number]) > 1 {
		w.doubles = append(w.doubles, Double{Addr: addr, At: at, Hosts: slices.Clone(w.answers[number])})
	}
}

// Asked returns how many questions about an address the observer has asked.
func (o *Observer) Asked(addr netip.Addr) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.watched[addr].asked
}

// Owned returns the hosts that answered for an address so far, in order.
func (o *Observer) Owned(addr netip.Addr) []Reign {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.watched[addr].owned)
}

// Announced returns the hosts that claimed an address by gratuitous ARP so far, in
// order.
func (o *Observer) Announced(addr netip.Addr) []Reign {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.watched[addr].announced)
}

// Doubles returns every question so far that two hosts answered.
func (o *Observer) Doubles() []Double {
	o.mu.Lock()
	defer o.mu.Unlock()
	var doubles []Double
	for _, addr := range o.addrs {
		doubles = append(doubles, o.watched[addr].doubles...)
	}
	return doubles
}

// Stop ends the observer. The other methods go on to return what it saw.
func (o *Observer) Stop() {
	close(o.quit)
	_ = o.close()
	o.done.Wait()
}

// close closes the sockets.
func (o *Observer) close() (err error) {
	for _, wire := range o.wires {
		err = errors.Join(err, wire.close())
	}
	return err
}
