package lab

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCable(t *testing.T) {
	h1 := newHosts(t).Servers[0]
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	for _, plugged := range []bool{false, true, false} {
		set := h1.Unplug
		if plugged {
			set = h1.Plug
		}
		require.NoError(t, set("eth0"))
		eventually(t, func() error {
			if carrier := operational(h1.nl, "eth0") == nil; carrier != plugged {
				return errors.New("the carrier does not follow the cable")
			}
			return nil
		})
		bound, err := h1.Bound()
		require.NoError(t, err)
		require.Contains(t, bound, vip)
	}
}

func TestUnplugEndsTheConnection(t *testing.T) {
	hosts := newHosts(t)
	h1 := hosts.Servers[0]
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	c, _ := newClient(t, hosts.Client)
	eventually(t, answered(c, h1))
	require.NoError(t, h1.Unplug("eth0"))
	eventually(t, unanswered(c))
	require.NoError(t, h1.Plug("eth0"))
	eventually(t, answered(c, h1))
	require.Error(t, h1.Unplug("eth9"))
}
