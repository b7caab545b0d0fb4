package integration

// The proof that one host keeps the address.

import (
	"fmt"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// tenure is the time in which one host must keep the address. Lost requests prove
// nothing, because a busy machine loses some by itself. The proof is that the kernel
// never removed the address, that the lock was not acquired again, and that the
// observer saw no other owner.
type tenure struct {
	*scene
	owner  *lab.Process
	events *lab.Process
	lock   uint64   // how often the lock was acquired before
	owners []string // that the observer saw so far
}

// longestGap is how long the client may be without an answer while the address stays
// or is handed over. An owner that is killed leaves a longer gap or nearly so.
const longestGap = 3 * time.Second

// tenure begins to watch the instance that owns the address.
func (s *scene) tenure(owner *lab.Process) *tenure {
	s.t.Helper()
	s.await(s.ownedBy(owner.Host))
	s.await(condition{"the observer to see " + owner.Host.Name, func() error {
		if seen := lab.HostsOf(s.observer.Owned(s.vip)); len(seen) == 0 || seen[len(seen)-1] != owner.Host.Name {
			return fmt.Errorf("%v", seen)
		}
		return nil
	}})
	events := s.monitor(owner.Host)
	pair, _ := s.lockOf(s.vip)
	return &tenure{s, owner, events, pair.LockIndex, lab.HostsOf(s.observer.Owned(s.vip))}
}

// unbroken requires that the instance owned the address all the time.
func (t *tenure) unbroken() {
	t.t.Helper()
	t.running(t.owner)
	t.await(inState(t.owner, "active"))
	t.await(t.ownedBy(t.owner.Host))
	t.holds(t.notRemoved())
	pair, _ := t.lockOf(t.vip)
	t.Equal(t.lock, pair.LockIndex, "times that the lock was acquired")
	t.Equal(t.owners, lab.HostsOf(t.observer.Owned(t.vip)), "owners seen by the observer")
	t.Less(t.scene.client.Report().Longest().Length(), longestGap, "time without an answer")
}

// notRemoved is met while the address has not left the kernel of its owner.
func (t *tenure) notRemoved() condition { return removed(t.events, t.vip, false) }
