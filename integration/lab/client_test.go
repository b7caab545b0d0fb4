package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClientSeesLossWhenAnAddressIsRemoved(t *testing.T) {
	cast := newLab(t)
	h1 := cast.Servers[0]
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	c, err := cast.Client.NewClient(vip)
	require.NoError(t, err)
	eventually(t, answered(c, "h1"))

	removed := time.Now()
	require.NoError(t, h1.RemoveAddress("eth0", vipNet))
	eventually(t, answered(c, ""))
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	back := time.Now()
	eventually(t, answered(c, "h1"))

	r := c.Stop()
	gap := r.Longest()
	require.Equal(t, []string{"h1"}, r.Hosts())
	require.WithinDuration(t, removed, gap.From, inFlight/2)
	require.WithinDuration(t, back, gap.To, inFlight/2)
	require.GreaterOrEqual(t, gap.Length(), inFlight)
	require.Equal(t, r.Sent-r.Lost, r.Owned[0].Answers)
	require.NotZero(t, gap.Lost)
	t.Log(r)
}

func TestClientFollowsGratuitousARP(t *testing.T) {
	cast := newLab(t)
	h1, h2 := cast.Servers[0], cast.Servers[1]
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	c, err := cast.Client.NewClient(vip)
	require.NoError(t, err)
	eventually(t, answered(c, "h1"))

	require.NoError(t, h1.RemoveAddress("eth0", vipNet))
	require.NoError(t, h2.AddAddress("eth0", vipNet))
	eventually(t, func() error {
		// Linux ignores an update that comes within a second of the last one.
		if err := h2.Send("eth0", Gratuitous(ARPRequest, h2.MAC, vip).Frame()); err != nil {
			return err
		}
		return answered(c, "h2")()
	})

	r := c.Stop()
	require.Equal(t, []string{"h1", "h2"}, r.Hosts())
	require.Less(t, r.Owned[0].Last, r.Owned[1].First)
}

func TestClientWithoutAnyAnswer(t *testing.T) {
	cast := newLab(t)
	c, err := cast.Client.NewClient(vip)
	require.NoError(t, err)
	eventually(t, func() error {
		if r := c.Report(); r.Before < 50 {
			return errTooFew
		}
		return nil
	})
	r := c.Stop()
	require.Zero(t, r.Sent)
	require.Zero(t, r.Lost)
	require.Empty(t, r.Hosts())
	require.Empty(t, r.Gaps)
}
