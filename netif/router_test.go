package netif

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRouter(t *testing.T) {
	newNetns(t)
	newVeth(t, "eth0", "peer0")
	h := newHost(t)
	require.False(t, h.Router("eth0"))
	require.NoError(t, os.WriteFile("/proc/sys/net/ipv6/conf/eth0/forwarding", []byte("1"), 0))
	require.True(t, h.Router("eth0"))
	require.False(t, h.Router("peer0"))
	require.False(t, h.Router("nope"))
}
