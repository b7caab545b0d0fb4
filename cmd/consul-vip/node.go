package main

import (
	"context"
	"fmt"
	"io"

	"github.com/consul-vip/consul-vip/lease/operator"
)

// nodeFlags returns the flags of a command about a node, and the value of -node.
func nodeFlags(name string, out io.Writer) (*operatorFlags, *string) {
	f := newOperatorFlags(name, out)
	return f, f.String("node", "", "name of the `node`; the default is the node of the local Consul agent")
}

// nodeOrLocal returns node, or the node of the local Consul agent if node is empty.
func nodeOrLocal(ctx context.Context, o *operator.Operator, node string) (string, error) {
	if node != "" {
		return node, nil
	}
	node, err := o.LocalNode(ctx)
	if err != nil {
		return "", fmt.Errorf("-node is not set, and the node name of the local Consul agent is unknown: %w", err)
	}
	return node, nil
}
