package agent

import (
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

const (
	// kernelSlack is how late the kernel may remove an address after its lifetime.
	kernelSlack = 500 * time.Millisecond
	// carrierReport is how late the kernel may report a lost carrier.
	carrierReport = time.Second
	// checkSlack is how long an ordinary takeover may last after a host check has found
	// the owner dead.
	checkSlack = 100 * time.Millisecond
)

// logWorstCases logs the longest outages that this configuration allows: for each
// failure, the time until the address has left its owner, and the time until a
// successor has bound it.
func logWorstCases(log hclog.Logger, cfg *config.Config) {
	ttl := cfg.Consul.SessionTTL
	deadMan, proving := time.Duration(0), announcer.LoneSilence
	checking, slowest := true, time.Duration(0)
	for _, v := range cfg.VIPs {
		if v.Unbound { // Consul alone says who has it
			checking = false
			continue
		}
		deadMan = max(deadMan, v.DeadMan)
		if v.Takeover == config.TakeoverStrict {
			proving = ttl + announcer.LoneSilence
		}
		checking = checking && v.Takeover != config.TakeoverStrict && v.HostCheck.Misses > 0
		slowest = max(slowest, v.HostCheck.Interval*time.Duration(v.HostCheck.Misses))
	}
	deadMan += kernelSlack
	detected := cfg.Consul.CheckTTL
	if detected == 0 {
		detected = 2 * ttl // Consul ends a session at up to twice its TTL
	}
	worst := func(failure string, args ...any) {
		log.Info("worst case", append([]any{"failure", failure}, args...)...)
	}
	worst("this process is killed or frozen",
		"address_gone_within", deadMan.String(), "taken_over_within", (max(detected, deadMan) + proving).String())
	worst("this node cannot reach Consul's servers",
		"address_gone_within", (ttl - lease.Margin).String(), "taken_over_within", (2*ttl + proving).String(),
		"usually", "as soon as it is gone: Serf notices within seconds")
	usually := "some 6s, as Serf notices"
	if checking {
		usually = "within " + (slowest + checkSlack).String() + ", as host_check notices"
	}
	worst("this host dies", "taken_over_within", (2*ttl + proving).String(), "usually", usually)
	worst("the link loses its carrier", "address_gone_within", (carrierReport + carrierDebounce).String())
}
