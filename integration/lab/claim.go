package lab

import (
	"net"
	"net/netip"
)

// Claims returns the frames by which mac can claim ip to all hosts, the usual one first.
func Claims(mac net.HardwareAddr, ip netip.Addr) [2][]byte {
	if ip.Is4() {
		return [2][]byte{Gratuitous(ARPRequest, mac, ip).Frame(), Gratuitous(ARPReply, mac, ip).Frame()}
	}
	somebody := Subnet6.Addr().Next()
	return [2][]byte{Advertisement(mac, ip).Frame(), Solicitation(mac, ip, somebody).Frame()}
}
