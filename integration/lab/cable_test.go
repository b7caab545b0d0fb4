package lab

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

func TestCable(t *testing.T) {
	cast := newLab(t)
	h1 := cast.Servers[0]
	carrier := func() bool {
		link, err := h1.nl.LinkByName("eth0")
		require.NoError(t, err)
		return link.Attrs().OperState == netlink.OperUp
	}
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	for _, plugged := range []bool{false, true, false} {
		set := h1.Unplug
		if plugged {
			set = h1.Plug
		}
		require.NoError(t, set("eth0"))
		eventually(t, func() error {
			if carrier() != plugged {
				return errors.New("the carrier is not as the cable")
			}
			return nil
		})
		bound, err := h1.Bound()
		require.NoError(t, err)
		require.Contains(t, bound, vip)
	}
}

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
