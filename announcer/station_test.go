package announcer

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/arp"
)

var (
	thirdMAC   = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x77}
	gatewayMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0xfe}

	source      = netip.MustParseAddr("10.77.0.11") // ours
	peerAddr    = netip.MustParseAddr("10.77.0.12")
	thirdAddr   = netip.MustParseAddr("10.77.0.13")
	gatewayAddr = netip.MustParseAddr("10.77.0.1")

	peerHost    = Host{Addr: peerAddr, MACs: []net.HardwareAddr{peerMAC}}
	thirdHost   = Host{Addr: thirdAddr, MACs: []net.HardwareAddr{thirdMAC}}
	gatewayHost = Host{Addr: gatewayAddr}
)

// A station answers requests for its addresses, in their order, as a kernel does.
type station struct {
	mac   net.HardwareAddr
	from  net.HardwareAddr // the MAC in its answers, if it differs
	loss  float64          // probability that a request or an answer gets lost
	delay time.Duration

	mu     sync.Mutex // guards all following fields
	addrs  map[netip.Addr]bool
	dead   bool
	asked  map[netip.Addr]int
	random *rand.Rand
}

func newStation(mac net.HardwareAddr, addrs ...netip.Addr) *station {
	s := &station{mac: mac, addrs: map[netip.Addr]bool{}, asked: map[netip.Addr]int{}, random: rand.New(rand.NewPCG(1, 2))}
	for _, a := range addrs {
		s.addrs[a] = true
	}
	return s
}

func (s *station) set(addr netip.Addr, has bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs[addr] = has
}

func (s *station) die(dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = dead
}

func (s *station) count(addr netip.Addr) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[addr]
}

// answers reports whether an answer to a request arrives.
func (s *station) answers(f sentFrame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.to.String() != broadcast.String() && f.to.String() != s.mac.String() {
		return false
	}
	s.asked[f.TargetIP]++
	return s.addrs[f.TargetIP] && !s.dead && !s.loses()
}

// loses reports whether the next request or its answer gets lost.
func (s *station) loses() bool {
	request, answer := s.random.Float64(), s.random.Float64()
	return min(request, answer) < s.loss
}

// reply is the answer of the station to a request.
func (s *station) reply(f sentFrame) []byte {
	mac := s.mac
	if s.from != nil {
		mac = s.from
	}
	return arpFrame(ourMAC, arp.OperationReply, mac, f.TargetIP, f.SenderHardwareAddr, f.SenderIP).Payload
}

// connect lets stations answer what the socket sends until it is closed. An answer
// comes after the delay, in the order of the requests.
func (f *fakeSocket) connect(t *testing.T, stations ...*station) {
	t.Helper()
	type answer struct {
		due     time.Time
		payload []byte
	}
	var queues []chan answer
	for range stations {
		queue := make(chan answer, 1<<14)
		queues = append(queues, queue)
		go func() {
			for {
				select {
				case a := <-queue:
					time.Sleep(time.Until(a.due))
					select {
					case f.in <- received{frame: Inbound{Received: time.Now(), Payload: a.payload}}:
					case <-f.closed:
						return
					}
				case <-f.closed:
					return
				}
			}
		}()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onSend = func(sent sentFrame) {
		for i, s := range stations {
			if s.answers(sent) {
				queues[i] <- answer{time.Now().Add(s.delay), s.reply(sent)}
			}
		}
	}
}
