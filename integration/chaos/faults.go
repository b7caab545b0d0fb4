package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// errVoid says that there was nothing to do harm to at that moment.
var errVoid = errors.New("nothing there to do it to")

const (
	// lockTurn is how long `consul lock` may take until it waits for the lock, and
	// lockEnd to end: it heeds a signal only when its query has been answered.
	lockTurn = 10 * time.Second
	lockEnd  = 20 * time.Second
	// lockTries is how often the lock is freed for it.
	lockTries = 3
	// lockTry is how long one of these may take.
	lockTry = 2 * time.Second
)

// apply does f and returns when it is over.
func (w *world) apply(ctx context.Context, f Fault) error {
	n, vip := w.nodes[f.Host], vipOf(f.VIP)
	if f.Owner {
		bound, err := w.bound()
		if err != nil {
			return err
		}
		if len(bound[vip]) > 0 {
			n = w.nodeOf(bound[vip][0])
		}
		w.journal.note("FAULT", "%d is aimed at %s", f.Number, n.Name)
	}
	lasts := func() { sleep(ctx, f.Lasts) }
	switch f.Kind {
	case Stop:
		return n.instance.stop(ctx, syscall.SIGTERM, f.Restart)
	case Interrupt:
		return n.instance.stop(ctx, syscall.SIGINT, f.Restart)
	case Crash:
		return n.instance.stop(ctx, syscall.SIGKILL, f.Restart)
	case Freeze:
		return n.instance.freeze(ctx, f.Lasts)
	case HostDeath:
		return during(func() { lasts(); w.forget(n) }, n.unplugged, n.consulDown, n.halted)
	case Carrier:
		return during(lasts, n.unplugged)
	case CutOff:
		return during(lasts, n.cut)
	case LeaderCrash:
		leader, err := w.cluster.Leader()
		if err != nil {
			return fmt.Errorf("%w: %w", errVoid, err)
		}
		return during(lasts, w.nodeOf(leader.Host.Name).consulDown)
	case ConsulRestart:
		return during(lasts, w.nodes[0].consulDown, w.nodes[1].consulDown, w.nodes[2].consulDown)
	case AddressDeleted:
		return w.deleteAddress(vip)
	case ForeignARP:
		operation := uint16(lab.ARPRequest)
		if f.Other {
			operation = lab.ARPReply
		}
		return w.Observer.Send("eth0", lab.Gratuitous(operation, stranger, vip).Frame())
	case ConsulLock:
		return w.consulLock(ctx, n, vip, f.Lasts)
	case Reload:
		return n.reload(ctx, f.VIP, f.Lasts)
	case Priority:
		first, second := syscall.SIGUSR1, syscall.SIGUSR2
		if f.Other {
			first, second = second, first
		}
		return errors.Join(n.instance.tell(first), func() error { lasts(); return n.instance.tell(second) }())
	}
	if err := w.applyToConsul(ctx, f, n, vip); err != nil {
		return fmt.Errorf("%w: %w", errVoid, err)
	}
	return nil
}

// applyToConsul does what is done by writing to Consul.
func (w *world) applyToConsul(ctx context.Context, f Fault, n *node, vip netip.Addr) error {
	switch f.Kind {
	case SessionDestroyed:
		return w.destroySession(ctx, n)
	case KeyDeleted:
		return w.deleteKey(ctx, lockKey(vip))
	case KeyOverwritten:
		return w.putKey(ctx, lockKey(vip), "mine")
	case Pin:
		if err := w.putKey(ctx, pinKey(vip), n.Name); err != nil {
			return err
		}
		return w.deleteLater(ctx, pinKey(vip), f.Lasts)
	case Drain:
		if err := w.putKey(ctx, drainKey(n), "chaos"); err != nil {
			return err
		}
		return w.deleteLater(ctx, drainKey(n), f.Lasts)
	case Release:
		return w.release(ctx, vip, f.Lasts)
	}
	return fmt.Errorf("unknown kind of fault %q", f.Kind)
}

// deleteLater deletes a key, however long Consul does not let it.
func (w *world) deleteLater(ctx context.Context, key string, d time.Duration) error {
	sleep(ctx, d)
	return lab.Await(ctx, func() error { return w.deleteKey(ctx, key) })
}

// release asks the owner of an address to give it up, and takes that back after a
// time.
func (w *world) release(ctx context.Context, vip netip.Addr, d time.Duration) error {
	bound, err := w.bound()
	if err != nil {
		return err
	}
	if len(bound[vip]) == 0 {
		return errVoid
	}
	if err := w.putKey(ctx, releaseKey(vip), bound[vip][0]); err != nil {
		return err
	}
	return w.deleteLater(ctx, releaseKey(vip), d)
}

// reload has the instance live without an address for a time.
func (n *node) reload(ctx context.Context, vip int, d time.Duration) error {
	if err := n.configure(vip); err != nil {
		return err
	}
	err := n.instance.tell(syscall.SIGHUP)
	sleep(ctx, d)
	return errors.Join(err, n.configure(none), n.instance.tell(syscall.SIGHUP))
}

// forget removes what a host's kernel forgets as it dies.
func (w *world) forget(n *node) {
	for i := range vips {
		_ = n.RemoveAddress("eth0", netip.PrefixFrom(vipOf(i), 32)) // nearly always it has none
	}
}

func (w *world) deleteAddress(vip netip.Addr) error {
	bound, err := w.bound()
	if err != nil {
		return err
	}
	if len(bound[vip]) == 0 {
		return errVoid
	}
	if err := w.nodeOf(bound[vip][0]).RemoveAddress("eth0", netip.PrefixFrom(vip, 32)); err != nil {
		return fmt.Errorf("%w: %w", errVoid, err) // gone meanwhile
	}
	return nil
}

// destroySession destroys the session of the instance on a node.
func (w *world) destroySession(ctx context.Context, n *node) error {
	return w.ask(ctx, func(ctx context.Context, c *api.Client) error {
		pair, _, err := c.KV().Get(prefix+"/.members/"+n.Name, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		if pair == nil || pair.Session == "" {
			return errVoid
		}
		_, err = c.Session().Destroy(pair.Session, (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
}

func (w *world) deleteKey(ctx context.Context, key string) error {
	return w.ask(ctx, func(ctx context.Context, c *api.Client) error {
		_, err := c.KV().Delete(key, (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
}

func (w *world) putKey(ctx context.Context, key, value string) error {
	return w.ask(ctx, func(ctx context.Context, c *api.Client) error {
		_, err := c.KV().Put(&api.KVPair{Key: key, Value: []byte(value)}, (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
}

// consulLock has "consul lock" wait for the lock, frees the lock for it, though
// others may be quicker, and lets it hold it for a time.
func (w *world) consulLock(ctx context.Context, n *node, vip netip.Addr, holds time.Duration) error {
	run := fmt.Sprintf("sleep %.1f", holds.Seconds())
	p, err := n.Start(lab.Command{Args: []string{w.consul, "lock", "-verbose", prefix + "/" + vip.String(), run}})
	if err != nil {
		return err
	}
	says := func(text string, within time.Duration) bool {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		return lab.Await(ctx, func() error {
			if !strings.Contains(p.String(), text) {
				return errVoid
			}
			return nil
		}) == nil
	}
	waiting := says("Attempting lock acquisition", lockTurn)
	got := false
	for try := 0; waiting && !got && try < lockTries; try++ {
		if err := w.deleteKey(ctx, lockKey(vip)); err != nil {
			break
		}
		got = says("Starting handler", lockTry)
	}
	w.journal.note("consul lock", "on %s for %s: waiting %t, got its turn %t", n.Name, vip, waiting, got)
	if !got {
		_ = p.Signal(syscall.SIGINT) // it may have given up by itself
	}
	ending, cancel := context.WithTimeout(ctx, lockEnd)
	defer cancel()
	if _, err := p.Wait(ending); err != nil {
		w.journal.note("consul lock", "killed: %v", err)
		return errors.Join(errVoid, p.Kill())
	}
	if !got {
		return errVoid
	}
	return nil
}
