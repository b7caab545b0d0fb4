package agent

import (
	"os"

	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

// Owner is what readers of a lock's record see of its holder: the fields of the
// record that package lease does not know.
type Owner struct {
	// Interface has the address; the successor sends ready to its MAC and expects
	// released from it.
	Interface string `json:"interface,omitempty"`
	MAC       string `json:"mac,omitempty"`
	// Under Nomad: the allocation and the job that the instance runs as.
	AllocID string `json:"alloc_id,omitempty"`
	Job     string `json:"job,omitempty"`
}

// DecodeOwner returns the owner of a record. Fields that are missing, or not text,
// are empty: another version or another program may have written them.
func DecodeOwner(encoded leasestate.Owner) Owner {
	var o Owner
	_ = encoded.Decode(&o)
	return o
}

// encode cannot fail: an Owner is text.
func (o Owner) encode() leasestate.Owner {
	encoded, _ := leasestate.NewOwner(o)
	return encoded
}

// processOwner returns the part of the owner that is the same for all locks of
// this process.
func processOwner() Owner {
	return Owner{AllocID: os.Getenv("NOMAD_ALLOC_ID"), Job: os.Getenv("NOMAD_JOB_NAME")}
}

// on completes the owner with the interface of a link and its current MAC.
func (o Owner) on(l *link) Owner {
	state, _ := l.state.Get()
	o.Interface, o.MAC = l.name, state.mac.String()
	return o
}
