package netif

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

func TestResyncAfterOverrun(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h, err := open(AgentTag, hclog.NewNullLogger(), 1) // the kernel raises it to its minimum
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	a, err := h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
	require.NoError(t, err)

	// Overrun the buffer while no Watch reads it.
	for i := range 100 {
		cidr := fmt.Sprintf("10.77.1.%d/32", i)
		operatorAdds(t, "eth0", cidr)
		operatorRemoves(t, "eth0", cidr)
	}
	require.NoError(t, netlink.AddrReplace(linkNamed(t, "eth0"), operatorAddr(t, "10.77.0.100/32")))

	events := watch(t, h)
	await(t, events, func(Resync) bool { return true })
	await(t, events, func(e AddressForeign) bool { return e.Addr == a.prefix.Addr() })
	await(t, events, func(IdentityChanged) bool { return true })

	// Later events arrive again.
	operatorRemoves(t, "eth0", "10.77.0.100/32")
	await(t, events, func(e AddressRemoved) bool { return e.Addr == a.prefix.Addr() })
}

func TestResyncReportsLinks(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	newVeth(t, "eth1", "peer1")
	h, err := open(AgentTag, hclog.NewNullLogger(), 1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	events := watch(t, h)
	awaitUp(t, events, "eth0", "peer0", "eth1", "peer1")

	// Watch blocks on its channel from the first of these on.
	for i := range 100 {
		cidr := fmt.Sprintf("10.77.1.%d/32", i)
		operatorAdds(t, "eth1", cidr)
		operatorRemoves(t, "eth1", cidr)
	}
	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "eth1")))
	require.NoError(t, netlink.LinkDel(linkNamed(t, "eth0")))

	await(t, events, func(Resync) bool { return true })
	changed := map[string]LinkChanged{}
	for range 4 { // eth1 is down and peer1 without carrier, eth0 and peer0 are gone
		e := await(t, events, func(LinkChanged) bool { return true })
		changed[e.Name] = e
	}
	require.True(t, changed["eth0"].Removed)
	require.Equal(t, eth0, changed["eth0"].Index)
	require.True(t, changed["peer0"].Removed)
	require.False(t, changed["eth1"].Up)
	require.False(t, changed["eth1"].Removed)
	require.False(t, changed["peer1"].Up)
}
