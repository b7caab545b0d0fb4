package lab

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeys(t *testing.T) {
	k := Keys("some/prefix")
	addr, ok := k.LockOf(k.Lock(vip))
	require.True(t, ok)
	require.Equal(t, vip, addr)
	node, ok := k.MemberOf(k.Member("h1"))
	require.True(t, ok)
	require.Equal(t, "h1", node)
	for _, other := range []string{"", k.All(), k.VIP(vip), k.Pin(vip), k.Drain("h1"), DefaultKeys.Lock(vip), DefaultKeys.Member("h1")} {
		_, ok = k.LockOf(other)
		require.False(t, ok, other)
		_, ok = k.MemberOf(other)
		require.False(t, ok, other)
	}
}
