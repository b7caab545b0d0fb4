package lab

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnplugEndsTheConnection(t *testing.T) {
	cast := newLab(t)
	h1 := cast.Servers[0]
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	c, err := cast.Client.NewClient(vip)
	require.NoError(t, err)
	defer c.Stop()
	eventually(t, answered(c, "h1"))
	require.NoError(t, h1.Unplug("eth0"))
	eventually(t, answered(c, ""))
	require.NoError(t, h1.Plug("eth0"))
	eventually(t, answered(c, "h1"))
	require.Error(t, h1.Unplug("eth9"))
}
