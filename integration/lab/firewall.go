package lab

import (
	"context"
	"strings"
)

// consulRules drops Consul's traffic between hosts, in and out: the servers' RPC and
// the gossip. The host's own agent stays reachable on the loopback interface, and all
// other frames pass.
const consulRules = `
table inet lab {
	chain in {
		type filter hook input priority 0
		iifname "eth0" meta l4proto { tcp, udp } th dport 8300-8302 drop
		iifname "eth0" meta l4proto { tcp, udp } th sport 8300-8302 drop
	}
	chain out {
		type filter hook output priority 0
		oifname "eth0" meta l4proto { tcp, udp } th dport 8300-8302 drop
		oifname "eth0" meta l4proto { tcp, udp } th sport 8300-8302 drop
	}
}
`

// CutOff cuts the host off from the Consul servers of the other hosts.
func (h *Host) CutOff(ctx context.Context) error { return h.nft(ctx, consulRules) }

// Heal undoes CutOff.
func (h *Host) Heal(ctx context.Context) error { return h.nft(ctx, "delete table inet lab\n") }

func (h *Host) nft(ctx context.Context, rules string) error {
	_, err := h.Run(ctx, Command{Args: []string{"nft", "-f", "-"}, Stdin: strings.NewReader(rules)})
	return err
}
