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

const (
	// lockWaitTimeout is how long "consul lock" may take until it waits for the lock.
	lockWaitTimeout = 10 * time.Second
	// lockEndTimeout is how long it may take to end: it reacts to a signal only when
	// its query has been answered.
	lockEndTimeout = 20 * time.Second
	// lockTries is how often chaos frees the lock for it, and lockTryTimeout how long
	// each try may take.
	lockTries      = 3
	lockTryTimeout = 2 * time.Second
)

// applyToConsul does a fault that is a write to Consul.
func (l *chaosLab) applyToConsul(ctx context.Context, f Fault, n *node, vip netip.Addr) error {
	switch f.Kind {
	case SessionDestroyed:
		return l.destroySession(ctx, n)
	case KeyDeleted:
		return l.deleteKey(ctx, keys.Lock(vip))
	case KeyOverwritten:
		return l.putKey(ctx, keys.Lock(vip), "mine")
	case Pin:
		return l.putForAWhile(ctx, f, keys.Pin(vip), n.Name)
	case Drain:
		return l.putForAWhile(ctx, f, keys.Drain(n.Name), "chaos")
	case Release:
		owner, err := l.ownerOf(vip)
		if err != nil {
			return err
		}
		return l.putForAWhile(ctx, f, keys.Release(vip), owner.Name)
	}
	return fmt.Errorf("unknown kind of fault %q", f.Kind)
}

// putForAWhile writes a key, and deletes it at the end of the fault or, if Consul does
// not answer then, as soon as it answers.
func (l *chaosLab) putForAWhile(ctx context.Context, f Fault, key, value string) error {
	if err := l.putKey(ctx, key, value); err != nil {
		return err
	}
	f.last(ctx)
	return lab.Await(ctx, func() error { return l.deleteKey(ctx, key) })
}

// destroySession destroys the session of the instance on a node.
func (l *chaosLab) destroySession(ctx context.Context, n *node) error {
	return l.request(ctx, func(ctx context.Context, c *api.Client) error {
		pair, _, err := c.KV().Get(keys.Member(n.Name), (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		if pair == nil || pair.Session == "" {
			return errNoTarget
		}
		_, err = c.Session().Destroy(pair.Session, (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
}

func (l *chaosLab) deleteKey(ctx context.Context, key string) error {
	return l.request(ctx, func(ctx context.Context, c *api.Client) error {
		_, err := c.KV().Delete(key, (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
}

func (l *chaosLab) putKey(ctx context.Context, key, value string) error {
	return l.request(ctx, func(ctx context.Context, c *api.Client) error {
		_, err := c.KV().Put(&api.KVPair{Key: key, Value: []byte(value)}, (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
}

// consulLock makes "consul lock" wait for the lock of an address and frees the lock. If
// no instance of consul-vip is quicker, "consul lock" holds it for a time.
func (l *chaosLab) consulLock(ctx context.Context, n *node, vip netip.Addr, holds time.Duration) error {
	command := fmt.Sprintf("sleep %.1f", holds.Seconds())
	p, err := n.Start(lab.Command{Args: []string{l.Consul, "lock", "-verbose", keys.VIP(vip), command}})
	if err != nil {
		return err
	}
	waiting := awaitOutput(ctx, p, "Attempting lock acquisition", lockWaitTimeout)
	acquired := false
	for try := 0; waiting && !acquired && try < lockTries; try++ {
		if err := l.deleteKey(ctx, keys.Lock(vip)); err != nil {
			break
		}
		acquired = awaitOutput(ctx, p, "Starting handler", lockTryTimeout)
	}
	l.journal.note("consul lock", "on %s for %s: waited %t, acquired %t", n.Name, vip, waiting, acquired)
	if !acquired {
		_ = p.Signal(syscall.SIGINT) // it may have ended by itself
	}
	ending, cancel := context.WithTimeout(ctx, lockEndTimeout)
	defer cancel()
	if _, err := p.Wait(ending); err != nil {
		l.journal.note("consul lock", "killed: %v", err)
		return errors.Join(errNoTarget, p.Kill())
	}
	if !acquired {
		return errNoTarget
	}
	return nil
}

// awaitOutput reports whether the process writes a text within a time.
func awaitOutput(ctx context.Context, p *lab.Process, text string, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return lab.Await(ctx, func() error {
		if !strings.Contains(p.String(), text) {
			return errors.New("not written yet")
		}
		return nil
	}) == nil
}
