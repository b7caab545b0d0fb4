package consul

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/consul/api"
)

// ErrDatacenter means that the client is set up for another datacenter than the local
// agent's. A session belongs to the node on which it is created, and its checks to the
// agent of that node, so no lock can be held elsewhere.
var ErrDatacenter = errors.New("locks can be held only in the local Consul agent's datacenter")

// tenancy is where in Consul Enterprise everything is; both are empty elsewhere. The
// API's client adds them to the address of each request. Consul does not look there
// for the operations of a transaction, the checks of a session and the permissions in
// question: each names its own, and is in the default namespace and partition if not.
type tenancy struct {
	Namespace string `json:",omitempty"`
	Partition string `json:",omitempty"`
}

// operation returns op in the tenancy.
func (t tenancy) operation(op Op) *api.TxnOp {
	in := *op
	in.Namespace, in.Partition = t.Namespace, t.Partition
	return &api.TxnOp{KV: &in}
}

// CheckDatacenter returns an ErrDatacenter if the client's requests do not go to the
// datacenter of the local agent, which [Client.Agent] has returned.
func (c *Client) CheckDatacenter(local Agent) error {
	if c.datacenter == "" || strings.EqualFold(c.datacenter, local.Datacenter) {
		return nil
	}
	return fmt.Errorf("-datacenter=%s: %w, %s", c.datacenter, ErrDatacenter, local.Datacenter)
}
