package lease

import "context"

// An owner prepares before it gives a lock away on purpose: see [Lock].Prepare.

// leavingReason is why the lock is about to be given away.
func (t *tenure) leavingReason() error {
	if t.stopping() {
		return context.Cause(t.stop)
	}
	return t.due.Reason
}

// mustPrepare reports whether Prepare comes first if the lock is to be given away.
func (t *tenure) mustPrepare(lock Lock) bool {
	return lock.Prepare != nil && !t.prepared && t.h.isBound()
}

// prepare calls Prepare, unless something is under way. It counts as a write: no other one
// begins meanwhile.
func (t *tenure) prepare(lock Lock, reason error) {
	if t.writing {
		return
	}
	t.start(t.h.run, func(ctx context.Context) answer {
		ctx, cancel := context.WithTimeout(ctx, lock.PrepareTimeout)
		defer cancel()
		lock.Prepare(ctx, reason)
		return answer{prepared: true}
	})
}

// putOff reports whether a release has to wait for Prepare.
func (t *tenure) putOff(end End, lock Lock) bool {
	if end.Kind != Released || !t.mustPrepare(lock) {
		return false
	}
	t.prepare(lock, end.Reason)
	return true
}

// keepAfterAll tells that a lock stays for which Prepare was called.
func (t *tenure) keepAfterAll(lock Lock) {
	if !t.prepared {
		return
	}
	t.prepared = false
	if lock.Kept != nil {
		lock.Kept()
	}
}
