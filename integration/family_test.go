package integration

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// family is what differs between the addresses of two families in a test.
type family struct {
	name string
	// addr is the address of the scene with this number.
	addr func(n int) netip.Addr
	// claims are the frames in which a stranger claims an address.
	claims map[string]func(mac net.HardwareAddr, vip netip.Addr) []byte
	// harmless returns frames that claim nothing, or only nonsense.
	harmless func(mac net.HardwareAddr, vip netip.Addr) [][]byte
}

var ipv4 = family{
	name: "IPv4",
	addr: func(n int) netip.Addr { return addr(10, 77, byte(16+n/250), byte(1+n%250)) },
	claims: map[string]func(net.HardwareAddr, netip.Addr) []byte{
		"request": func(mac net.HardwareAddr, vip netip.Addr) []byte {
			return lab.Gratuitous(lab.ARPRequest, mac, vip).Frame()
		},
		"reply": func(mac net.HardwareAddr, vip netip.Addr) []byte {
			return lab.Gratuitous(lab.ARPReply, mac, vip).Frame()
		},
	},
	harmless: func(mac net.HardwareAddr, vip netip.Addr) [][]byte {
		ask := lab.ARP{Operation: lab.ARPRequest, SenderMAC: mac, SenderIP: netip.MustParseAddr("10.77.0.99"), TargetIP: vip}
		return append(truncated(lab.Gratuitous(lab.ARPRequest, mac, vip).Frame()), lab.Probe(mac, vip).Frame(), ask.Frame())
	},
}

var ipv6 = family{
	name: "IPv6",
	addr: func(n int) netip.Addr {
		a := lab.Subnet6.Addr().As16()
		a[13], a[14], a[15] = 1, byte(n/250), byte(1+n%250)
		return netip.AddrFrom16(a)
	},
	claims: map[string]func(net.HardwareAddr, netip.Addr) []byte{
		"advertisement": func(mac net.HardwareAddr, vip netip.Addr) []byte { return lab.Advertisement(mac, vip).Frame() },
		"solicitation": func(mac net.HardwareAddr, vip netip.Addr) []byte {
			return lab.Solicitation(mac, vip, lab.Subnet6.Addr().Next()).Frame()
		},
	},
	harmless: func(mac net.HardwareAddr, vip netip.Addr) [][]byte {
		claim := lab.Advertisement(mac, vip).Frame()
		forwarded, damaged := bytes.Clone(claim), bytes.Clone(claim)
		forwarded[14+7]--  // the hop limit
		damaged[14+40+2]++ // the checksum
		return append(truncated(claim), forwarded, damaged,
			lab.Solicitation(mac, netip.IPv6Unspecified(), vip).Frame(),
			lab.Solicitation(mac, netip.MustParseAddr("fd77::99"), vip).Frame())
	},
}

var families = []family{ipv4, ipv6}

// truncated returns all beginnings of a frame.
func truncated(frame []byte) (beginnings [][]byte) {
	const header = 14 // less is no Ethernet frame
	for n := header; n < len(frame); n++ {
		beginnings = append(beginnings, frame[:n])
	}
	return beginnings
}

// inFamilies runs test in a scene with an address of each family.
func inFamilies(t *testing.T, test func(t *testing.T, s *scene, f family)) {
	t.Helper()
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) { test(t, newSceneOfFamily(t, sharedLab(t), f), f) })
	}
}

// inWorldsAndFamilies runs a test in each world, and with an IPv6 address in the one that
// is common.
func inWorldsAndFamilies(t *testing.T, test func(t *testing.T, s *scene)) {
	t.Helper()
	inWorlds(t, test)
	t.Run(string(lab.Clients)+", "+ipv6.name, func(t *testing.T) {
		test(t, newSceneOfFamily(t, sharedLabOf(t, lab.Clients), ipv6))
	})
}

// hundreds returns a hundred addresses of each family. No scene has the same ones.
func hundreds(third byte) (list []netip.Addr) {
	for i := range byte(100) {
		a := lab.Subnet6.Addr().As16()
		a[13], a[14], a[15] = 2, third, 1+i
		list = append(list, addr(10, 77, third, 1+i), netip.AddrFrom16(a))
	}
	return list
}

// newSceneOfFamily prepares a scene with one address of a family in a lab.
func newSceneOfFamily(t *testing.T, w *lab.Lab, f family) *scene {
	t.Helper()
	return newSceneWith(t, w, everyAddress, f.addr(int(addresses.Add(1))))
}
