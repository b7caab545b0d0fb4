package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
)

func TestReloadLogsWorstCases(t *testing.T) {
	runFakeHost(t, configured(t, "", "10.0.0.1"), nil, func(h *fakeHost) {
		first := h.logged("worst case", "address_gone_within")
		h.since(func() { h.reload <- configured(t, "", `10.0.0.1 dead_man = "9s"`) })
		second := h.logged("worst case", "address_gone_within")
		require.Len(t, second, 2*len(first))
		assert.Equal(t, "7.5s", second[0])
		assert.Equal(t, "9.5s", second[len(first)])
	})
}

func TestWorstCasesOfAStrictTakeover(t *testing.T) {
	takenOver := func(lines string) (found []any) {
		runFakeHost(t, configured(t, "", "10.0.0.1 "+lines), nil, func(h *fakeHost) {
			found = h.logged("worst case", "taken_over_within")
		})
		return found
	}
	probe, strict := takenOver(""), takenOver(`takeover = "strict"`)
	require.Len(t, strict, len(probe))
	for i, within := range probe {
		if within == nil {
			continue // a lost carrier: no bound for the takeover
		}
		faster, err := time.ParseDuration(within.(string))
		require.NoError(t, err)
		assert.Equal(t, (faster + config.DefaultSessionTTL).String(), strict[i])
	}
}
