package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// errNoTarget says that there was nothing that the fault could hit at that moment.
var errNoTarget = errors.New("no target")

// apply does f and returns when it is over.
func (l *chaosLab) apply(ctx context.Context, f Fault) error {
	n, vip := l.nodes[f.Host], vipOf(f.VIP)
	if f.Owner {
		switch owner, err := l.ownerOf(vip); {
		case err == nil:
			n = owner
		case !errors.Is(err, errNoTarget):
			return err
		}
		l.journal.note("FAULT", "%d hits %s", f.Number, n.Name)
	}
	switch f.Kind {
	case AddressDeleted:
		return l.deleteAddress(vip)
	case ForeignClaim:
		claims := lab.Claims(lab.Stranger(), vip)
		frame := claims[0]
		if f.Other {
			frame = claims[1]
		}
		l.foreign.begin()
		return l.Observer.Send(serviceInterface, frame)
	case ForeignHost:
		return l.foreign.has(vip, func() { f.last(ctx) })
	case ConsulLock:
		return l.consulLock(ctx, n, vip, f.Lasts)
	case Stop, Interrupt, Crash, Freeze, Reload, Priority:
		return l.applyToInstance(ctx, f, n)
	case HostDeath, HostStall, Carrier, LinkDown, CutOff, AgentRestart, AgentFreeze:
		return l.applyToHost(ctx, f, n)
	case LeaderCrash, LeaderDeath, ConsulRestart:
		return l.applyToServers(ctx, f)
	case SwitchStall:
		return during(func() { f.last(ctx) }, l.switchOff)
	case FrameLoss:
		return during(func() { f.last(ctx) }, l.lossy)
	}
	if err := l.applyToConsul(ctx, f, n, vip); err != nil {
		return fmt.Errorf("%w: %w", errNoTarget, err)
	}
	return nil
}

// applyToInstance does a fault that is a signal to the instance of a node.
func (l *chaosLab) applyToInstance(ctx context.Context, f Fault, n *node) error {
	switch f.Kind {
	case Stop:
		return n.instance.stop(ctx, syscall.SIGTERM, f.Restart)
	case Interrupt:
		return n.instance.stop(ctx, syscall.SIGINT, f.Restart)
	case Crash:
		return n.instance.stop(ctx, syscall.SIGKILL, f.Restart)
	case Freeze:
		return n.instance.freeze(ctx, f.Lasts)
	case Reload:
		return n.reload(ctx, f)
	case Priority:
		first, second := syscall.SIGUSR1, syscall.SIGUSR2
		if f.Other {
			first, second = second, first
		}
		err := n.instance.notify(first)
		f.last(ctx)
		return errors.Join(err, n.instance.notify(second))
	}
	return fmt.Errorf("unknown kind of fault %q", f.Kind)
}

// reload makes the instance run without an address for a time.
func (n *node) reload(ctx context.Context, f Fault) error {
	if _, err := n.configure(f.VIP); err != nil {
		return err
	}
	first := n.instance.notify(syscall.SIGHUP)
	f.last(ctx)
	_, err := n.configure(none)
	return errors.Join(first, err, n.instance.notify(syscall.SIGHUP))
}

// applyToHost does a fault of a host, its links or its Consul agent.
func (l *chaosLab) applyToHost(ctx context.Context, f Fault, n *node) error {
	last := func() { f.last(ctx) }
	switch f.Kind {
	case HostDeath:
		return during(func() { last(); l.removeAddresses(n) }, n.linkDown, n.unplugged, n.consulDown, n.halted)
	case HostStall:
		return l.excuses.during(n.Name, func() error { return during(last, n.stalled) })
	case Carrier, LinkDown:
		return l.excuses.during(n.Name, func() error { return during(last, n.linkDown) })
	case CutOff:
		return during(last, n.cut)
	case AgentRestart:
		return during(last, n.consulDown)
	case AgentFreeze:
		return during(last, n.consulFrozen)
	}
	return fmt.Errorf("unknown kind of fault %q", f.Kind)
}

// applyToServers does a fault of Consul's servers.
func (l *chaosLab) applyToServers(ctx context.Context, f Fault) error {
	last := func() { f.last(ctx) }
	if f.Kind == ConsulRestart {
		var all []*refcount
		for _, m := range l.servers {
			all = append(all, m.consulDown)
		}
		return during(last, all...)
	}
	leader, err := l.leader()
	switch {
	case err != nil:
		return err
	case f.Kind == LeaderCrash:
		return during(last, leader.consulDown)
	case f.Kind == LeaderDeath:
		return during(last, leader.unplugged, leader.consulDown)
	}
	return fmt.Errorf("unknown kind of fault %q", f.Kind)
}

// removeAddresses removes all addresses from a host, as the end of its kernel does.
func (l *chaosLab) removeAddresses(n *node) {
	for _, vip := range allVIPs() {
		_ = n.RemoveAddress(serviceInterface, netip.PrefixFrom(vip, vip.BitLen())) // it has few of them
	}
}

// deleteAddress removes an address from its owner, as another program may do.
func (l *chaosLab) deleteAddress(vip netip.Addr) error {
	owner, err := l.ownerOf(vip)
	if err != nil {
		return err
	}
	if err := owner.RemoveAddress(serviceInterface, netip.PrefixFrom(vip, vip.BitLen())); err != nil {
		return fmt.Errorf("%w: %w", errNoTarget, err) // the owner has removed it in the meantime
	}
	return nil
}
