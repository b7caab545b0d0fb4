package agent

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/netif"
)

// A node whose link is down is not eligible, and says so once for all addresses.
func TestLinkDown(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1", "10.0.0.2", `10.0.0.3 interface = "eth1"`), nil, func(h *fakeHost) {
		report := netif.LinkChanged{Index: 7, Name: "eth0", Up: true, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 7}}
		h.since(func() { h.events <- report })
		down := report
		down.Up = false
		for range 3 { // flaps that are too short
			assert.Empty(t, h.since(func() { h.events <- down }))
			time.Sleep(carrierDebounce - 1)
			assert.Empty(t, h.since(func() { h.events <- report }))
		}
		calls := h.since(func() {
			h.events <- down
			time.Sleep(carrierDebounce)
		})
		assert.ElementsMatch(t, []string{
			"update 10.0.0.1: 100, 0s, not eligible: the link is down",
			"update 10.0.0.2: 100, 0s, not eligible: the link is down",
		}, calls)
		assert.Equal(t, []any{"the link is down"}, h.logged("not eligible", "reason"))
		assert.Equal(t, []any{2.}, h.logged("not eligible", "addresses"))
		require.NoError(t, h.ineligible("10.0.0.3"))
		calls = h.since(func() { h.events <- report })
		assert.ElementsMatch(t, []string{"update 10.0.0.1: 100, 0s", "update 10.0.0.2: 100, 0s"}, calls)
		assert.Len(t, h.logged("the link is up", "interface"), 4)
	})
}

// Two links whose times to come back end one after the other.
func TestLinksDown(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1", `10.0.0.2 interface = "eth1"`), nil, func(h *fakeHost) {
		for index := 7; index <= 8; index++ {
			h.since(func() { h.events <- netif.LinkChanged{Index: index, Up: true} })
		}
		h.since(func() { h.events <- netif.LinkChanged{Index: 7} })
		time.Sleep(carrierDebounce / 2)
		h.since(func() { h.events <- netif.LinkChanged{Index: 8} })
		time.Sleep(carrierDebounce / 2)
		synctest.Wait()
		require.Error(t, h.ineligible("10.0.0.1"))
		require.NoError(t, h.ineligible("10.0.0.2"))
		time.Sleep(carrierDebounce / 2)
		synctest.Wait()
		require.Error(t, h.ineligible("10.0.0.2"))
	})
}

// The first report tells what nobody knew: it needs no time to come back.
func TestLinkThatIsDownAtTheStart(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1"), nil, func(h *fakeHost) {
		h.since(func() { h.events <- netif.LinkChanged{Index: 7, Name: "eth0"} })
		require.ErrorIs(t, h.ineligible("10.0.0.1"), errLinkDown)
	})
}
