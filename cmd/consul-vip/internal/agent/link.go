package agent

import (
	"bytes"
	"context"
	"net"
	"sync"

	"github.com/consul-vip/consul-vip/netif"
)

// link is one network interface with the wire behind it, shared by all its
// VIPs. It is safe for concurrent use.
type link struct {
	index int
	name  string
	wire  segment
	close context.CancelFunc // ends the wire

	mu      sync.Mutex
	up      bool // set up, and with a carrier
	mac     net.HardwareAddr
	changed chan struct{} // closed at the next change
}

// newLink takes the link to be up until the kernel says otherwise, which it
// does as soon as it is watched.
func newLink(ifi *net.Interface, wire segment) *link {
	return &link{
		index:   ifi.Index,
		name:    ifi.Name,
		wire:    wire,
		up:      true,
		mac:     ifi.HardwareAddr,
		changed: make(chan struct{}),
	}
}

// state returns what the link is like and a channel that closes when that
// changes.
func (l *link) state() (up bool, mac net.HardwareAddr, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up, l.mac, l.changed
}

// update takes what the kernel says and reports whether the MAC is another one.
func (l *link) update(e netif.LinkChanged) (renamed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up == e.Up && bytes.Equal(l.mac, e.HardwareAddr) {
		return false
	}
	if !e.Removed && !bytes.Equal(l.mac, e.HardwareAddr) {
		renamed = true
		l.mac = e.HardwareAddr
		l.wire.SetHardwareAddr(e.HardwareAddr)
	}
	l.up = e.Up
	close(l.changed)
	l.changed = make(chan struct{})
	return renamed
}
