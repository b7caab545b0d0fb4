package capability

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestLacking(t *testing.T) {
	const admin, raw = uint64(1) << unix.CAP_NET_ADMIN, uint64(1) << unix.CAP_NET_RAW
	both := []Capability{NetAdmin, NetRaw}
	require.NoError(t, lacking(admin|raw, both))
	require.NoError(t, lacking(^uint64(0), both))
	require.NoError(t, lacking(raw, []Capability{NetRaw}))
	for name, test := range map[string]struct {
		effective     uint64
		named, spared []string
	}{
		"no NET_RAW":   {admin, []string{"CAP_NET_RAW (to send and hear ARP)"}, []string{"CAP_NET_ADMIN"}},
		"no NET_ADMIN": {^admin, []string{"CAP_NET_ADMIN (to bind addresses)"}, []string{"CAP_NET_RAW"}},
		"none":         {0, []string{"CAP_NET_ADMIN", "CAP_NET_RAW"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := lacking(test.effective, both)
			require.ErrorIs(t, err, ErrMissing)
			for _, capability := range test.named {
				assert.ErrorContains(t, err, capability)
			}
			for _, capability := range test.spared {
				assert.NotContains(t, err.Error(), capability)
			}
			for _, remedy := range []string{"cap_add", "AmbientCapabilities", "setcap", "root"} {
				assert.ErrorContains(t, err, remedy)
			}
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

// The kernel shows the same set in /proc.
func TestCheckCapabilities(t *testing.T) {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	shown := regexp.MustCompile(`(?m)^CapEff:\s*([0-9a-f]+)$`).FindSubmatch(status)
	require.NotNil(t, shown)
	effective, err := strconv.ParseUint(string(shown[1]), 16, 64)
	require.NoError(t, err)
	assert.Equal(t, lacking(effective, []Capability{NetAdmin, NetRaw}), Check(NetAdmin, NetRaw))
}
