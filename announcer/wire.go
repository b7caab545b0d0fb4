// Package announcer speaks for floating addresses on an Ethernet segment: it
// announces them, hears who else claims them and asks whether anybody still
// answers for them.
//
// One [Wire] per interface serves every address on it through one packet
// socket. The package knows ARP, hence IPv4; sockets, pacing and schedules know
// addresses and frames only, so that NDP finds its place beside arp.go.
package announcer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
)

// What a caller of this package may have to tell apart. Errors wrap these.
var (
	// ErrUnsupportedFamily: the address is of a family the wire does not speak.
	ErrUnsupportedFamily = errors.New("only IPv4 addresses can be announced")

	// ErrUnsupportedInterface: the interface has no 6-byte Ethernet address.
	ErrUnsupportedInterface = errors.New("not an Ethernet interface")

	// ErrInterfaceGone: the interface was deleted or left the network namespace.
	ErrInterfaceGone = errors.New("the interface is gone")

	// ErrNotSent: the kernel did not take a frame, so no silence proves anything.
	ErrNotSent = errors.New("frame not sent")

	// ErrClosed: the Wire is closed, or its Run has ended.
	ErrClosed = errors.New("the wire is closed")
)

// Options of a [Wire]. The zero value is useful.
type Options struct {
	// Own reports whether a MAC is one of this host's interfaces'. It is called
	// only for a frame that would otherwise be a claim, and for a ProbeConfig's Target,
	// so it may ask the kernel afresh, but the reader waits for it. It is called
	// from several goroutines. Nil: only the interface's own MAC is ours.
	Own func(net.HardwareAddr) (bool, error)

	// Logger hears of outages of the wire. Nil: nobody does.
	Logger hclog.Logger
}

// A Wire is one interface's segment. Open one with [Open], keep [Wire.Run]
// running; all methods may be called from any goroutine.
type Wire struct {
	sock  socket
	pacer *pacer
	isOwn func(net.HardwareAddr) (bool, error)
	log   hclog.Logger

	mac       atomic.Pointer[net.HardwareAddr]
	tally     tally
	listeners subscribers[*Listener]
	heirs     subscribers[*Handover]

	// One outage is one line in the log, however many frames it costs.
	receiving, sending, owning outage
}

// Open opens the packet socket of an interface in the network namespace of the
// calling thread; from then on the Wire works from any thread. Nothing is read
// or sent before Run. An interface without an Ethernet address is an error
// wrapping ErrUnsupportedInterface.
func Open(ifi *net.Interface, o Options) (*Wire, error) {
	if len(ifi.HardwareAddr) != macLen {
		return nil, fmt.Errorf("%s: %w", ifi.Name, ErrUnsupportedInterface)
	}
	sock, err := openPacketSocket(ifi)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", ifi.Name, err)
	}
	return newWire(sock, ifi.HardwareAddr, o), nil
}

func newWire(sock socket, mac net.HardwareAddr, o Options) *Wire {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Own == nil {
		o.Own = func(net.HardwareAddr) (bool, error) { return false, nil }
	}
	w := &Wire{
		sock:      sock,
		pacer:     newPacer(),
		isOwn:     o.Own,
		log:       o.Logger,
		receiving: outage{log: o.Logger, what: "receiving"},
		sending:   outage{log: o.Logger, what: "sending"},
		owning:    outage{log: o.Logger, what: "looking up this host's MACs"},
	}
	w.SetHardwareAddr(mac)
	return w
}

// Run reads the wire and paces what is sent until ctx ends (nil), the
// Wire is closed (ErrClosed), the interface is gone (ErrInterfaceGone) or the
// socket keeps failing. Call it once: when it returns, the Wire is closed.
func (w *Wire) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		w.pacer.run(ctx)
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return w.Close() // nothing else makes the reader return
	})
	g.Go(func() error { return w.read(ctx) })
	return g.Wait()
}

// Close closes the socket and makes every Announce and Probe under way return.
// Closing twice is fine.
func (w *Wire) Close() error {
	w.pacer.close()
	return w.sock.close()
}

// SetHardwareAddr tells the Wire that its interface's MAC changed: the next
// frame sent carries it. A mac that is not an Ethernet address is not taken.
func (w *Wire) SetHardwareAddr(mac net.HardwareAddr) {
	if len(mac) != macLen {
		w.log.Warn("not an Ethernet address, keeping the last one", "mac", mac)
		return
	}
	mac = bytes.Clone(mac)
	w.mac.Store(&mac)
}

// Counts returns how many frames met each verdict since Open.
func (w *Wire) Counts() map[Verdict]uint64 { return w.tally.counts() }

// read takes frames off the socket until ctx ends or the socket is beyond hope.
func (w *Wire) read(ctx context.Context) error {
	buf := make([]byte, maxPayload)
	var t trouble
	for {
		in, err := w.sock.receive(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrClosed) {
			return err
		}
		w.receiving.note(err)
		if err == nil {
			w.dispatch(in)
			continue
		}
		pause, err := t.after(err, time.Now())
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// dispatch judges one frame and tells those it concerns.
func (w *Wire) dispatch(in inbound) {
	verdict, claim, hearers := classify(in, w.listeners.of, w.own)
	w.tally.add(verdict)
	for _, l := range hearers {
		l.offer(claim)
	}
	w.tellHeirs(in, verdict)
}

// own reports whether mac is this host's. When the host cannot tell, mac counts
// as foreign: a wrong claim costs one move that was not needed, a missed one
// leaves two hosts answering for an address until the rival speaks again.
func (w *Wire) own(mac net.HardwareAddr) bool {
	own, err := w.lookUp(mac)
	return own && err == nil
}

// lookUp asks the host only where the answer is not known here.
func (w *Wire) lookUp(mac net.HardwareAddr) (bool, error) {
	if bytes.Equal(mac, *w.mac.Load()) {
		return true, nil
	}
	own, err := w.isOwn(mac)
	w.owning.note(err)
	return own, err
}

// transmit sends one frame when the pacer gives it its turn, encoded at that
// moment so that it carries the MAC of that moment. What the kernel refuses is
// an error wrapping ErrNotSent; any other error means ctx or the Wire ended, and
// then nothing was sent nor will be.
func (w *Wire) transmit(ctx context.Context, ordinal int, encode func(own net.HardwareAddr) outbound) error {
	return w.transmitIf(ctx, ordinal, nil, encode)
}

// transmitIf leaves the frame out, without an error, if entitled says no when
// its turn has come.
func (w *Wire) transmitIf(ctx context.Context, ordinal int, entitled func() bool, encode func(own net.HardwareAddr) outbound) error {
	tried := false
	err := w.pacer.do(ctx, ordinal, func() error {
		if entitled != nil && !entitled() {
			return nil
		}
		tried = true
		return w.sock.send(encode(*w.mac.Load()))
	})
	if !tried {
		return err
	}
	w.sending.note(err)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return nil
}

// supported returns the address as the wire knows it.
func supported(addr netip.Addr) (netip.Addr, error) {
	if addr = addr.Unmap(); !addr.Is4() {
		return addr, fmt.Errorf("%s: %w", addr, ErrUnsupportedFamily)
	}
	return addr, nil
}
