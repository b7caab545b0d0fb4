package agent

import (
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/config"
)

// silence is how long the wire must be silent before a takeover.
const silence = 50 * time.Millisecond

// logWorstCases tells the operator what this configuration can cost: for each
// failure, until when the address has left its owner, and until when the lock
// is free for a successor, who then binds.
func logWorstCases(log hclog.Logger, cfg *config.Config) {
	deadMan := time.Duration(0)
	for _, v := range cfg.VIPs {
		deadMan = max(deadMan, v.DeadMan)
	}
	ttl := cfg.Consul.SessionTTL
	died, detected := cfg.Consul.CheckTTL, "check_ttl"
	if died == 0 {
		died, detected = 2*ttl, "twice session_ttl"
	}
	for _, c := range []struct {
		failure  string
		gone     time.Duration
		taken    time.Duration
		deciding string
	}{
		{"this process is killed or frozen", deadMan, max(died, deadMan) + silence, detected + " or dead_man, the longer"},
		{"this node cannot reach Consul", ttl - time.Second, ttl - time.Second + silence, "session_ttl"},
		{"this host dies", 0, 2*ttl + silence, "Serf's failure detection, usually some 6s; at the latest twice session_ttl"},
		{"the link loses its carrier", carrierDebounce, 0, "the carrier's debounce, then a release"},
	} {
		args := []any{"failure", c.failure, "address_gone_within", c.gone.String(), "decided_by", c.deciding}
		if c.taken > 0 {
			args = append(args, "taken_over_within", c.taken.String())
		}
		log.Info("worst case", args...)
	}
}
