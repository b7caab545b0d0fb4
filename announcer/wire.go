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

	"github.com/consul-vip/consul-vip/internal/failurelog"
)

// Errors of this package wrap these where a caller may need to tell them apart.
var (
	// ErrUnsupportedFamily: the address is not one of the Wire's family.
	ErrUnsupportedFamily = errors.New("not an address of the family of this wire")

	// ErrUnsupportedInterface: the interface has no 6-byte Ethernet address.
	ErrUnsupportedInterface = errors.New("not an Ethernet interface")

	// ErrInterfaceGone: the interface was deleted or left the network namespace.
	ErrInterfaceGone = errors.New("the interface is gone")

	// ErrNotSent: the kernel refused a frame. Silence after it proves nothing.
	ErrNotSent = errors.New("frame not sent")

	// ErrClosed: the Wire is closed, or its Run has ended.
	ErrClosed = errors.New("the wire is closed")
)

// Options configures a [Wire]. The zero value is ready to use.
type Options struct {
	// Own reports whether a MAC belongs to an interface of this host. The Wire calls
	// it only for a frame that would otherwise be a claim or a word of a handover, for
	// the target of a probe, and for the last station heard, so it may query the kernel
	// each time. Several goroutines call it; the reader waits for it. Nil: only the
	// interface's own MAC belongs to this host.
	Own func(net.HardwareAddr) (bool, error)

	// Router reports whether this host forwards IPv6 packets of the interface. It is
	// called for every announcement of an IPv6 address, and must not block. Nil: it does
	// not forward any.
	Router func() bool

	// Logger gets one line when receiving, sending or Own starts to fail, and one
	// when it works again. Nil: nothing is logged.
	Logger hclog.Logger
}

// A Wire sends and receives the frames of one family on the segment of one interface.
// Create it with [Open] or [New] and keep [Wire.Run] running. It is safe for concurrent use.
type Wire struct {
	family   Family
	protocol protocol
	sock     Socket
	groups   *groups // nil: the segment has none
	pacer    *pacer
	router   func() bool
	own      func(net.HardwareAddr) (bool, error)
	log      hclog.Logger

	mac       atomic.Pointer[net.HardwareAddr]
	tally     tally
	listeners subscribers[*Listener]
	handovers subscribers[*Handover]
	neighbors neighbors
	losses    losses
	heard     heard
	owned     atomic.Int64 // hosts that answer for an address of a Prove
	checks    atomic.Int64 // frames per interval of all host checks
	measured  atomic.Int64 // hosts whose loss is measured

	receiving, sending, lookingUp, joining *failurelog.Log
}

// Open opens a packet socket on an interface in the network namespace of the
// calling thread. The Wire can then be used from any thread. Nothing is sent or
// received before Run. The error wraps ErrUnsupportedInterface if the interface
// has no Ethernet address.
func Open(ifi *net.Interface, f Family, o Options) (*Wire, error) {
	if len(ifi.HardwareAddr) != macLen {
		return nil, fmt.Errorf("%s: %w", ifi.Name, ErrUnsupportedInterface)
	}
	sock, err := openPacketSocket(ifi, f)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", ifi.Name, err)
	}
	w := New(sock, ifi.HardwareAddr, f, o)
	if f == IPv6 {
		if w.groups, err = openGroups(ifi.Index); err != nil {
			return nil, errors.Join(err, sock.Close())
		}
	}
	return w, nil
}

// New returns a Wire that uses sock and closes it. Its frames carry mac.
func New(sock Socket, mac net.HardwareAddr, f Family, o Options) *Wire {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Own == nil {
		o.Own = func(net.HardwareAddr) (bool, error) { return false, nil }
	}
	if o.Router == nil {
		o.Router = func() bool { return false }
	}
	w := &Wire{
		family:    f,
		protocol:  protocols[f],
		sock:      sock,
		router:    o.Router,
		pacer:     newPacer(),
		own:       o.Own,
		log:       o.Logger,
		receiving: failurelog.New(o.Logger, "receiving"),
		sending:   failurelog.New(o.Logger, "sending"),
		lookingUp: failurelog.New(o.Logger, "looking up this host's MACs"),
		joining:   failurelog.New(o.Logger, "joining the group of an address"),
	}
	w.SetHardwareAddr(mac)
	return w
}

// Run receives frames and sends queued ones until ctx ends (nil), the Wire is
// closed (ErrClosed), the interface is gone (ErrInterfaceGone) or reads keep
// failing. Call it once; the Wire is closed when it returns.
func (w *Wire) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		w.pacer.run(ctx)
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return w.Close() // nothing else interrupts the reader
	})
	g.Go(func() error { return w.read(ctx) })
	return g.Wait()
}

// Close closes the socket and ends every Announce, Prove, CheckHost and MeasureLoss with
// ErrClosed. It may be called more than once.
func (w *Wire) Close() error {
	w.pacer.close()
	err := w.sock.Close()
	if w.groups != nil {
		err = errors.Join(err, w.groups.Close())
	}
	return err
}

// SetHardwareAddr sets the MAC that frames carry, starting with the next one sent.
// An address that is not an Ethernet address is logged and ignored.
func (w *Wire) SetHardwareAddr(mac net.HardwareAddr) {
	if len(mac) != macLen {
		w.log.Warn("not an Ethernet address, keeping the last one", "mac", mac)
		return
	}
	mac = bytes.Clone(mac)
	w.mac.Store(&mac)
}

// Counts returns the number of frames received since Open, by verdict.
func (w *Wire) Counts() map[Verdict]uint64 { return w.tally.counts() }

// read receives frames until ctx ends or an error is final.
func (w *Wire) read(ctx context.Context) error {
	buf := make([]byte, maxPayload)
	var backoff readBackoff
	for {
		in, err := w.sock.Receive(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrClosed) {
			return err
		}
		w.receiving.Record(err)
		if err == nil {
			w.dispatch(in)
			continue
		}
		pause, err := backoff.after(err, time.Now())
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// dispatch classifies one frame and delivers it to its subscribers.
func (w *Wire) dispatch(in Inbound) {
	m, listeners := classify(in, w.protocol.decode, w.listeners.of, w.isOwn)
	w.tally.add(m.verdict)
	for _, l := range listeners {
		l.deliver(Claim{Addr: m.sender, MAC: m.mac, Received: m.received})
	}
	w.deliverToHandovers(m)
	w.deliverToNeighbors(m)
	w.recordHeard(m)
}

// isOwn reports whether mac belongs to this host. If the lookup fails, mac counts
// as foreign: a false claim costs one unnecessary move, but after a missed claim
// two hosts answer for the address until the other one sends its next frame.
func (w *Wire) isOwn(mac net.HardwareAddr) bool {
	own, err := w.lookUp(mac)
	return own && err == nil
}

// mayBeOwn reports whether mac belongs to this host, or the lookup fails.
func (w *Wire) mayBeOwn(mac net.HardwareAddr) bool {
	own, err := w.lookUp(mac)
	return own || err != nil
}

// lookUp calls Options.Own unless mac is the MAC of the interface.
func (w *Wire) lookUp(mac net.HardwareAddr) (bool, error) {
	if bytes.Equal(mac, *w.mac.Load()) {
		return true, nil
	}
	own, err := w.own(mac)
	w.lookingUp.Record(err)
	return own, err
}

// transmit waits for the frame's turn and sends it. It calls encode at that moment,
// so the frame carries the current MAC. The error wraps ErrNotSent if the kernel
// refused the frame; any other error means that ctx or the Wire ended before the
// frame's turn, and the frame will not be sent.
func (w *Wire) transmit(ctx context.Context, ordinal int, encode func(own net.HardwareAddr) Outbound) error {
	return w.transmitIf(ctx, ordinal, nil, encode)
}

// transmitIf is transmit, but it drops the frame without an error if maySend, called
// when the frame has its turn, returns false. A nil maySend allows every frame.
func (w *Wire) transmitIf(ctx context.Context, ordinal int, maySend func() bool, encode func(own net.HardwareAddr) Outbound) error {
	tried := false
	err := w.pacer.do(ctx, ordinal, func() error {
		if maySend != nil && !maySend() {
			return nil
		}
		tried = true
		return w.sock.Send(encode(*w.mac.Load()))
	})
	if !tried {
		return err
	}
	w.sending.Record(err)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return nil
}

// supported returns addr without an IPv4-in-IPv6 mapping, or ErrUnsupportedFamily.
func (w *Wire) supported(addr netip.Addr) (netip.Addr, error) {
	if addr = addr.Unmap(); !w.family.has(addr) {
		return addr, fmt.Errorf("%s: %w", addr, ErrUnsupportedFamily)
	}
	return addr, nil
}
