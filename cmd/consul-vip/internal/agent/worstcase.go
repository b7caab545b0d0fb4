package agent

import (
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

const (
	// kernelSlack is how late the kernel may remove an expired address.
	kernelSlack = 500 * time.Millisecond
	// carrierReport is how late the kernel may say that a carrier is lost.
	carrierReport = time.Second
)

// logWorstCases tells the operator what this configuration can cost: for each
// failure, until when the address has left its owner, and until when a
// successor has bound it.
func logWorstCases(log hclog.Logger, cfg *config.Config) {
	ttl := cfg.Consul.SessionTTL
	deadMan, asking := time.Duration(0), announcer.ProbeWindow
	for _, v := range cfg.VIPs {
		deadMan = max(deadMan, v.DeadMan)
		if v.Takeover == config.TakeoverStrict {
			asking = ttl + announcer.ProbeWindow
		}
	}
	deadMan += kernelSlack
	died := cfg.Consul.CheckTTL
	if died == 0 {
		died = 2 * ttl
	}
	worst := func(failure string, args ...any) {
		log.Info("worst case", append([]any{"failure", failure}, args...)...)
	}
	worst("this process is killed or frozen",
		"address_gone_within", deadMan.String(), "taken_over_within", (max(died, deadMan) + asking).String())
	worst("this node cannot reach Consul's servers",
		"address_gone_within", (ttl - lease.Margin).String(), "taken_over_within", (2*ttl + asking).String(),
		"usually", "as soon as it is gone: Serf notices within seconds")
	worst("this host dies",
		"taken_over_within", (2*ttl + asking).String(), "usually", "some 6s, as Serf notices")
	worst("the link loses its carrier", "address_gone_within", (carrierReport + carrierDebounce).String())
}
