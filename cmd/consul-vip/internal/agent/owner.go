package agent

import (
	"os"

	"github.com/consul-vip/consul-vip/lease"
)

// processOwner returns the part of the owner that is the same for all locks of
// this process. Under Nomad it names the allocation and the job.
func processOwner() lease.Owner {
	return lease.Owner{AllocID: os.Getenv("NOMAD_ALLOC_ID"), Job: os.Getenv("NOMAD_JOB_NAME")}
}

// ownerOn completes process with the interface and its current MAC, to which the
// successor sends ready and from which it expects released.
func ownerOn(l *link, process lease.Owner) lease.Owner {
	state, _ := l.state.Get()
	process.Interface, process.MAC = l.name, state.mac.String()
	return process
}
