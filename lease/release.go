package lease

import (
	"context"
	"errors"
	"time"
)

// standBack is for how long a lock is left to others that was given up on
// request to nobody in particular: time enough for who waits with `consul lock`,
// or is about to start it.
const standBack = 10 * time.Second

// claimTimeout leaves Consul as much time as for a handover.
const claimTimeout = handOverTimeout

// claim takes the request at index to release the lock, so that it is carried
// out once. It returns false if it was taken back or changed, as the watch will
// show, or if Consul does not say whether it was claimed: rather not at all than
// after whoever asked has given up.
func (k *Keeper) claim(ctx context.Context, name string, index uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	err := k.consul.deleteUnchanged(ctx, k.releaseKey(name), index)
	switch {
	case err == nil:
		return true
	case !errors.Is(err, errConflict):
		k.log.Warn("could not claim the request to release the lock", "vip", name, "error", err)
	}
	return false
}
