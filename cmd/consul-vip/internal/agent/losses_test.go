package agent

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/consul-vip/consul-vip/config"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
	"github.com/consul-vip/consul-vip/netif"
)

// TestLossesOfMembers has the losses to all other members of the segment measured, as long
// as there are some, whether they own an address or not.
func TestLossesOfMembers(t *testing.T) {
	const vip = "10.0.0.1"
	measure := []string{"measure the loss to 10.0.0.33 from 10.0.0.11 every 25ms"}
	end := []string{"end the measurement to 10.0.0.33"}
	cfg := func(lines string) *config.Config { return configured(t, "", vip+" "+lines) }
	measured := func(h *fakeHost, do func()) (calls []string) {
		for _, call := range h.since(do) {
			if strings.Contains(call, "measure") {
				calls = append(calls, call)
			}
		}
		return calls
	}
	runFakeHost(t, cfg(""), onSegment, func(h *fakeHost) {
		members := func() { h.setKeys(ownedBy(ownerHost, "s2", 5), nil) }
		assert.Equal(t, measure, measured(h, members))
		assert.Empty(t, measured(h, members), "nothing has changed")
		assert.Equal(t, end, measured(h, func() { h.setKeys(leasestate.New(leasestate.NewKeys("p"), nil, 6), nil) }))
		assert.Equal(t, measure, measured(h, members))
		assert.Equal(t, end, measured(h, func() {
			h.mu.Lock()
			h.identity = map[int]netif.Identity{7: {Addrs: prefixes("10.1.0.11/24")}}
			h.mu.Unlock()
			h.events <- netif.IdentityChanged{Index: 7}
			members()
		}), "they are not on the segment any more")
	})
	for name, lines := range map[string]string{
		"strict": `takeover = "strict"`,
		"off":    "host_check { misses = 0 }",
	} {
		t.Run(name, func(t *testing.T) {
			runFakeHost(t, cfg(lines), onSegment, func(h *fakeHost) {
				assert.Empty(t, measured(h, func() { h.setKeys(ownedBy(ownerHost, "s2", 5), nil) }))
			})
		})
	}
}
