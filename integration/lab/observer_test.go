package lab

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var errTooFew = errors.New("not enough yet")

func TestObserverSeesTwoOwners(t *testing.T) {
	cast := newLab(t)
	h1, h2 := cast.Servers[0], cast.Servers[1]
	other := netip.MustParseAddr("10.77.1.2")
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	o, err := cast.Observer.NewObserver(10*time.Millisecond, vip, other)
	require.NoError(t, err)
	eventually(t, func() error {
		if owned := o.Owned(vip); len(owned) == 0 || owned[0].Answers < 2*questions {
			return errTooFew // every sender address has been used more than once
		}
		return nil
	})
	require.Empty(t, o.Doubles())

	require.NoError(t, h2.AddAddress("eth0", vipNet))
	eventually(t, func() error {
		if len(o.Doubles()) < 3 {
			return errTooFew
		}
		return nil
	})
	o.Stop()
	for _, d := range o.Doubles() {
		require.Equal(t, vip, d.Addr)
		require.ElementsMatch(t, []string{"h1", "h2"}, d.Hosts)
	}
	require.Empty(t, o.Owned(other))
}

func TestObserverHearsClaims(t *testing.T) {
	cast := newLab(t)
	h1, h2 := cast.Servers[0], cast.Servers[1]
	o, err := cast.Observer.NewObserver(10*time.Millisecond, vip)
	require.NoError(t, err)
	require.NoError(t, h1.Send("eth0", Gratuitous(ARPRequest, h1.MAC, vip).Frame()))
	require.NoError(t, h1.Send("eth0", Gratuitous(ARPReply, h1.MAC, vip).Frame()))
	require.NoError(t, h2.Send("eth0", Probe(h2.MAC, vip).Frame())) // claims nothing
	require.NoError(t, h2.Send("eth0", Gratuitous(ARPReply, h2.MAC, vip).Frame()))
	eventually(t, func() error {
		if len(o.Announced(vip)) < 2 {
			return errTooFew
		}
		return nil
	})
	o.Stop()
	announced := o.Announced(vip)
	require.Equal(t, "h1", announced[0].Host)
	require.Equal(t, 2, announced[0].Answers)
	require.Equal(t, "h2", announced[1].Host)
	require.Equal(t, 1, announced[1].Answers)
	require.Empty(t, o.Owned(vip))
}

func TestObserverTakesTwoInterfacesForOneHost(t *testing.T) {
	cast := newLab(t)
	h1 := cast.Servers[0]
	require.NoError(t, h1.AddInterface("eth1", net.HardwareAddr{2, 0, 0, 0, 1, 1}))
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	o, err := cast.Observer.NewObserver(time.Millisecond, vip)
	require.NoError(t, err)
	eventually(t, func() error {
		if owned := o.Owned(vip); len(owned) == 0 || owned[0].Answers < 2*questions {
			return errTooFew
		}
		return nil
	})
	o.Stop()
	require.Empty(t, o.Doubles())
	require.Len(t, o.Owned(vip), 1)
}
