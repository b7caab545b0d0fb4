package lab

import (
	"context"
	"fmt"
	"strings"
)

// consulRules drops Consul's traffic between hosts, in and out of an interface: the
// servers' RPC and the gossip. The host's own agent stays reachable on the loopback
// interface, and all other frames pass.
const consulRules = `
table inet lab {
	chain in {
		type filter hook input priority 0
		iifname %[1]q meta l4proto { tcp, udp } th dport 8300-8302 drop
		iifname %[1]q meta l4proto { tcp, udp } th sport 8300-8302 drop
	}
	chain out {
		type filter hook output priority 0
		oifname %[1]q meta l4proto { tcp, udp } th dport 8300-8302 drop
		oifname %[1]q meta l4proto { tcp, udp } th sport 8300-8302 drop
	}
}
`

// CutOff cuts the host off from the Consul agents of all other hosts.
func (h *Host) CutOff(ctx context.Context) error {
	return h.Filter(ctx, fmt.Sprintf(consulRules, h.ConsulInterface))
}

// Heal undoes CutOff.
func (h *Host) Heal(ctx context.Context) error { return h.Filter(ctx, "delete table inet lab\n") }

// Filter changes the host's firewall by nftables rules, as "nft -f" does.
func (h *Host) Filter(ctx context.Context, rules string) error {
	_, err := h.Run(ctx, Command{Args: []string{"nft", "-f", "-"}, Stdin: strings.NewReader(rules)})
	return err
}
