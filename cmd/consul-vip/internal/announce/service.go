package announce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/netif"
)

const (
	// lifetime is how long the kernel keeps the address after this process was killed or
	// frozen. It is extended every third of that.
	lifetime = 3 * time.Second

	// calm is how long claims are not looked at after one was answered.
	calm = 200 * time.Millisecond
)

// host is the kernel of this host: netif.Host, adapted by kernel.
type host interface {
	Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error)
	Remove(ifindex int, addr netip.Addr) error
	Identity(ifindex int) (netif.Identity, error)
}

// bound is an address that this process has bound: *netif.Address.
type bound interface {
	Extend(lifetime time.Duration) (extended bool, err error)
	Unbind() error
}

// wire is the segment of the interface: *announcer.Wire.
type wire interface {
	Run(ctx context.Context) error
	SetHardwareAddr(mac net.HardwareAddr)
	Prove(ctx context.Context, c announcer.ProofConfig) (announcer.Proof, error)
	Announce(ctx context.Context, a announcer.Announcement, again <-chan struct{}) error
	Listen(addr netip.Addr) *announcer.Listener
}

// service is the address while it is announced. One goroutine owns it, except for what is
// atomic, which the announcements read.
type service struct {
	o    Options
	addr netip.Addr
	ifi  *net.Interface
	host host
	wire wire
	log  hclog.Logger
	now  func() time.Duration

	mac       net.HardwareAddr // that is announced
	address   bound            // nil: this process has not bound it
	others    atomic.Bool      // another program binds it, or nobody
	until     atomic.Int64     // when its lifetime ends, by now
	again     latest.Wake      // set to announce at once
	down      bool             // the link is down
	watchFrom time.Time        // claims received before do not matter; zero: none does yet
	rivals    rivals
}

func newService(o Options, ifi *net.Interface, h host, w wire) *service {
	s := &service{
		o: o, addr: o.Prefix.Addr(), ifi: ifi, host: h, wire: w, now: bootTime,
		log: o.Logger.With("address", o.Prefix.Addr().String(), "interface", ifi.Name),
		mac: o.MAC, again: latest.NewWake(), rivals: rivals{},
	}
	if s.mac == nil {
		s.mac = bytes.Clone(ifi.HardwareAddr)
	}
	return s
}

// errQuit ends the service because another station has the address, and that is no failure.
var errQuit = errors.New("another station has the address")

// serve is the life of the address. It returns nil if ctx has ended it, or the count of
// announcements.
func (s *service) serve(ctx context.Context, events <-chan netif.Event) error {
	var claims <-chan announcer.Claim
	if s.o.Watch != WatchNo {
		listener := s.wire.Listen(s.addr)
		defer listener.Close()
		claims = listener.Claims()
	}
	if s.o.WatchImmediately {
		s.watchFrom = time.Now()
	}
	err := s.delay(ctx, events, claims)
	if err == nil {
		err = s.own(ctx, events, claims)
	}
	switch {
	case errors.Is(err, errQuit):
		return nil
	case ctx.Err() != nil && !errors.Is(err, errUnbind):
		s.log.Info("stopped", "reason", context.Cause(ctx))
		return nil
	}
	return err
}

// delay waits before the service begins.
func (s *service) delay(ctx context.Context, events <-chan netif.Event, claims <-chan announcer.Claim) error {
	over := time.NewTimer(s.o.Delay)
	defer over.Stop()
	for {
		select {
		case <-over.C:
			return nil
		case e := <-events:
			s.onEvent(ctx, e)
		case c := <-claims:
			if s.watchFrom.IsZero() {
				continue
			}
			if err := s.inUse(c.MAC); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errUnbind means that the address may be left in the kernel.
var errUnbind = errors.New("could not unbind the address")

// own binds the address, announces it and unbinds it.
func (s *service) own(ctx context.Context, events <-chan netif.Event, claims <-chan announcer.Claim) (err error) {
	if err := s.makeSure(ctx); err != nil {
		return err
	}
	if err := s.bind(); err != nil {
		return err
	}
	defer func() {
		if unbinding := s.unbind(); unbinding != nil {
			err = errors.Join(err, fmt.Errorf("%w: %w", errUnbind, unbinding))
		}
	}()
	return s.announce(ctx, events, claims)
}

// makeSure returns nil if no other station has the address, or if that does not matter.
func (s *service) makeSure(ctx context.Context) error {
	if s.o.Watch == WatchNo {
		return nil
	}
	c := announcer.ProofConfig{Addr: s.addr, Timeout: s.o.Wait}
	if here, err := s.host.Identity(s.ifi.Index); err == nil {
		c.Source = here.Source(s.addr)
		c.Witnesses.Gateway.Addr = here.Gateway
		if s.addr.Is6() {
			c.Witnesses.Gateway.Addr = here.Gateway6
		}
	}
	s.log.Info("asking whether another station has the address", "wait", s.o.Wait.String())
	_, err := s.wire.Prove(ctx, c)
	var inUse *announcer.InUseError
	if errors.As(err, &inUse) {
		return s.inUse(inUse.MAC)
	}
	return err
}

// inUse does what the options want if another station has the address.
func (s *service) inUse(mac net.HardwareAddr) error {
	log := s.log.With("mac", mac.String(), "watch", string(s.o.Watch))
	switch s.o.Watch {
	case WatchLog:
		log.Warn("another station has the address")
		return nil
	case WatchQuit:
		log.Info("another station has the address")
		return errQuit
	}
	return fmt.Errorf("%w: %s has the address", ErrConflict, mac)
}

// bind gives the address to the kernel. One that another program has bound on the
// interface stays as it is.
func (s *service) bind() error {
	if s.o.Unmanaged {
		s.others.Store(true)
		return nil
	}
	before := s.now()
	address, err := s.host.Bind(s.ifi.Index, s.o.Prefix, lifetime)
	var foreign *netif.ForeignError
	switch {
	case err == nil:
		s.address = address
		s.until.Store(int64(before + lifetime))
		s.log.Info("bound the address", "prefix", s.o.Prefix.String())
		return nil
	case errors.As(err, &foreign) && foreign.Interface == s.ifi.Name && !s.o.DieIfExists:
		s.others.Store(true)
		s.log.Warn("the interface has the address already, leaving it as it is")
		return nil
	}
	return err
}

// unbind takes the address away from the kernel, if this process has given it or the
// options want it.
func (s *service) unbind() error {
	s.until.Store(0)
	if s.address != nil {
		err := s.address.Unbind()
		s.address = nil
		return err
	}
	if s.o.RemovePreExisting {
		return s.host.Remove(s.ifi.Index, s.addr)
	}
	return nil
}

// announce announces the address until ctx ends, the count is reached or another station
// has it.
func (s *service) announce(ctx context.Context, events <-chan netif.Event, claims <-chan announcer.Claim) error {
	if s.watchFrom.IsZero() {
		s.watchFrom = time.Now().Add(s.o.WatchDelay)
	}
	announcing, stop := context.WithCancel(ctx)
	var joined sync.WaitGroup
	defer joined.Wait()
	defer stop()
	announced := make(chan error, 1)
	joined.Go(func() {
		announced <- s.wire.Announce(announcing, announcer.Announcement{
			Addr: s.addr, Schedule: func() announcer.Schedule { return s.o.Schedule }, MayAnnounce: s.mayAnnounce,
			To: s.o.Target, Form: s.o.Form, Count: s.o.Count,
		}, s.again)
	})
	s.log.Info("announcing the address", "mac", s.mac.String())
	refresh := time.NewTicker(lifetime / 3)
	defer refresh.Stop()
	heard := claims
	var calmed <-chan time.Time
	for {
		var err error
		select {
		case err := <-announced:
			if err == nil && ctx.Err() == nil {
				s.log.Info("announced the address", "times", s.o.Count)
			}
			return err
		case c := <-heard:
			err = s.onClaim(c)
			heard, calmed = nil, time.After(calm)
		case <-calmed:
			heard, calmed = claims, nil
		case e := <-events:
			err = s.onEvent(ctx, e)
		case <-refresh.C:
			err = s.refresh(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// mayAnnounce reports whether the address is still in the kernel: after a pause of the
// process another station may have it.
func (s *service) mayAnnounce() bool {
	return s.others.Load() || int64(s.now()) < s.until.Load()
}

// onClaim handles that another station claims the address.
func (s *service) onClaim(c announcer.Claim) error {
	switch {
	case c.Received.Before(s.watchFrom):
		return nil
	case s.o.Watch == WatchLog, s.rivals.claim(s.mac, c.MAC, c.Received):
		return s.inUse(c.MAC)
	}
	s.log.Warn("another station claims the address, announcing it again: the higher MAC has to give up", "mac", c.MAC.String())
	s.again.Set()
	return nil
}

// onEvent handles a change that the kernel reports.
func (s *service) onEvent(ctx context.Context, e netif.Event) error {
	switch e := e.(type) {
	case netif.LinkChanged:
		if e.Index != s.ifi.Index || e.Removed {
			return nil // the wire fails
		}
		if s.o.MAC == nil && !bytes.Equal(s.mac, e.HardwareAddr) {
			s.mac = e.HardwareAddr
			s.wire.SetHardwareAddr(s.mac)
		}
		if e.Up && s.down {
			s.again.Set()
		}
		s.down = !e.Up
	case netif.AddressRemoved:
		if e.Index == s.ifi.Index && e.Addr == s.addr {
			return s.refresh(ctx)
		}
	}
	return nil
}

// refresh extends the lifetime of the address. One that is missing, because somebody has
// removed it or this process was paused, is bound again if no other station has it.
func (s *service) refresh(ctx context.Context) error {
	if s.address == nil {
		return nil
	}
	now := s.now()
	reason := "its lifetime has ended"
	if int64(now) < s.until.Load() {
		extended, err := s.address.Extend(lifetime)
		if err != nil {
			return err
		}
		if extended {
			s.until.Store(int64(now + lifetime))
			return nil
		}
		reason = "another program has removed it"
	}
	s.log.Warn("the address is missing, binding it again", "reason", reason)
	if err := s.unbind(); err != nil {
		return err
	}
	if err := s.makeSure(ctx); err != nil {
		return err
	}
	if err := s.bind(); err != nil {
		return err
	}
	s.again.Set()
	return nil
}
