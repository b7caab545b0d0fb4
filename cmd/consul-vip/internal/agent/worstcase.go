package agent

import (
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

// kernelSlack is how late the kernel may remove an expired address.
const kernelSlack = 500 * time.Millisecond

// logWorstCases tells the operator what this configuration can cost: for each
// failure, until when the address has left its owner, and until when a
// successor has bound it.
func logWorstCases(log hclog.Logger, cfg *config.Config) {
	deadMan := time.Duration(0)
	for _, v := range cfg.VIPs {
		deadMan = max(deadMan, v.DeadMan)
	}
	deadMan += kernelSlack
	ttl := cfg.Consul.SessionTTL
	died := cfg.Consul.CheckTTL
	if died == 0 {
		died = 2 * ttl
	}
	worst := func(failure string, args ...any) {
		log.Info("worst case", append([]any{"failure", failure}, args...)...)
	}
	worst("this process is killed or frozen",
		"address_gone_within", deadMan.String(), "taken_over_within", (max(died, deadMan) + announcer.Silence).String())
	worst("this node cannot reach Consul's servers",
		"address_gone_within", (ttl - lease.Margin).String(), "taken_over_within", (2*ttl + announcer.Silence).String(),
		"usually", "as soon as it is gone: Serf notices within seconds")
	worst("this host dies",
		"taken_over_within", (2*ttl + announcer.Silence).String(), "usually", "some 6s, as Serf notices")
	worst("the link loses its carrier", "address_gone_within", carrierDebounce.String())
}
