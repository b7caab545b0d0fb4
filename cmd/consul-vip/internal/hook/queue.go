package hook

import (
	"context"
	"net/netip"
	"slices"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// queue are the events of an address that wait for their hooks, guarded by the Runner's
// mutex.
type queue struct {
	addr    netip.Addr
	posted  latest.Wake // set after a job was added
	working bool        // a worker takes the jobs
	jobs    []*job      // one of each sort at most, in the order of the events
	// superseded kills a program that runs for a job that is insisted on; nil: there is none.
	superseded context.CancelCauseFunc
}

// job is an event whose hooks are to be run.
type job struct {
	Event
	ctx     context.Context // ends the job; nil: only the end of Run does
	skipped int             // how many events of its sort it has replaced
}

// add appends a job. The one of the same sort that still waits is not run any more.
func (q *queue) add(j *job) {
	if i := slices.IndexFunc(q.jobs, func(o *job) bool { return o.sort() == j.sort() }); i >= 0 {
		j.skipped = q.jobs[i].skipped + 1
		q.jobs = slices.Delete(q.jobs, i, i+1)
	}
	q.jobs = append(q.jobs, j)
}
