package agent

import (
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

// how says how a step in the life of a VIP ended.
type how int

const (
	goesOn      how = iota // it has not ended
	holdEnded              // the hold has ended; lease.End says why
	linkDown               // the link is down
	unable                 // no frame can be sent although the link is up, or it takes no IPv6 address
	foreign                // another program of this host has bound the address
	conflict               // a stranger has the address, and on_conflict ends the process
	contested              // a stranger has the address, and the process goes on
	addressLost            // another program keeps removing the address
	failed                 // the kernel or the wire refused something
	returned               // the host from which the lock was taken is heard again
)

// outcome is how a step ended. The zero outcome goes on.
type outcome struct {
	how       how
	err       error                 // why, unless it goes on or the hold has ended
	contested *leasestate.Contested // the stranger, for the lock's record
	unclean   bool                  // this host may still answer for the address
}

// left tells lease how the lock was left.
func (o outcome) left() lease.Left {
	return lease.Left{Reason: o.err, Unclean: o.unclean, Contested: o.contested}
}
