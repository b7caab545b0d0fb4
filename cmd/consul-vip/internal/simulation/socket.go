package simulation

import (
	"sync"
	"syscall"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
)

// socketQueue is how many frames wait in a socket.
const socketQueue = 4096

// socket is a packet socket for the frames of a family: an announcer.Socket.
type socket struct {
	machine *machine
	family  announcer.Family
	wake    chan struct{} // has one element if there may be a frame
	closed  chan struct{}
	once    sync.Once

	// Guarded by the network's mutex.
	queue []announcer.Inbound
	busy  bool // the last frame may not be processed yet
}

func newSocket(m *machine, f announcer.Family) *socket {
	s := &socket{machine: m, family: f, wake: make(chan struct{}, 1), closed: make(chan struct{})}
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	if m.boots == m.boot {
		m.sockets[s] = true
	}
	return s
}

// enqueue is called by the kernel for each frame.
func (s *socket) enqueue(f frame) {
	if len(s.queue) == socketQueue {
		return
	}
	s.queue = append(s.queue, announcer.Inbound{From: f.from[:], Payload: f.payload, Received: time.Now()})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Receive implements [announcer.Socket].
func (s *socket) Receive([]byte) (announcer.Inbound, error) {
	for {
		if in, ok := s.take(); ok {
			if s.machine.gate.pass() != nil {
				return announcer.Inbound{}, announcer.ErrClosed
			}
			return in, nil
		}
		select {
		case <-s.wake:
		case <-s.closed:
			return announcer.Inbound{}, announcer.ErrClosed
		}
	}
}

func (s *socket) take() (in announcer.Inbound, ok bool) {
	s.machine.net.mu.Lock()
	defer s.machine.net.mu.Unlock()
	s.busy = len(s.queue) > 0
	if !s.busy {
		return in, false
	}
	in = s.queue[0]
	s.queue = s.queue[1:]
	return in, true
}

// Idle implements [announcer.Socket].
func (s *socket) Idle() bool {
	_ = s.machine.gate.pass()
	s.machine.net.mu.Lock()
	defer s.machine.net.mu.Unlock()
	return len(s.queue) == 0 && !s.busy
}

// Send implements [announcer.Socket].
func (s *socket) Send(o announcer.Outbound) error {
	m := s.machine
	if err := m.gate.pass(); err != nil {
		return err
	}
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	switch {
	case m.boots != m.boot || !m.carrier:
		return syscall.ENETDOWN
	case m.egress == egressRefuse:
		return syscall.ENOBUFS
	}
	f := parseFrame(m.mac, mac(o.To), o.Payload)
	m.net.checkSender(m.kernel, f)
	if m.egress == egressSent && !m.stalled {
		m.net.segment.transmit(f)
	}
	return nil
}

// Close implements [announcer.Socket].
func (s *socket) Close() error {
	s.once.Do(func() {
		s.machine.net.mu.Lock()
		defer s.machine.net.mu.Unlock()
		delete(s.machine.sockets, s)
		close(s.closed)
	})
	return nil
}
