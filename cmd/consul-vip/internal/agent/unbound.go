package agent

import "context"

// serveUnbound is serve for an address that is not bound on this host: hooks attach it, for
// example by an API call of a cloud, for as long as the lock is held. No kernel has such
// an address, so nobody has to prove that it is free.
func (v *vip) serveUnbound(ctx context.Context, t tenure) outcome {
	defer v.present.serve(t)()
	v.enter(stateAcquired, "lock acquired", t.fields()...)
	t.Bound()
	v.enter(stateActive, "lock held")
	v.onAcquired(t, "lock acquired")
	<-ctx.Done()
	end, o := t.Ended(), outcome{how: holdEnded}
	v.enter(stateReleasing, end.Reason.Error())
	v.onLeft(o, end.Kind, end.Reason.Error())
	return o
}
