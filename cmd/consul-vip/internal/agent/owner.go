package agent

import (
	"encoding/hex"
	"net"
	"net/netip"
	"os"

	"github.com/consul-vip/consul-vip/announcer"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

// Owner is what readers of a lock's record see of its holder: the fields of the
// record that package lease does not know.
type Owner struct {
	// Interface has the address; the successor sends ready to its MAC and expects
	// released from it.
	Interface string `json:"interface,omitempty"`
	MAC       string `json:"mac,omitempty"`
	// MACs are the others of the host's MACs from which the kernel may answer.
	MACs []string `json:"macs,omitempty"`
	// Host is the host's own address on the interface, in the subnet of the VIP if
	// there is one. Its kernel answers for it in the order of the questions, which
	// proves that it has released the VIP.
	Host string `json:"host,omitempty"`
	// Under Nomad: the allocation and the job that the instance runs as.
	AllocID string `json:"alloc_id,omitempty"`
	Job     string `json:"job,omitempty"`
}

// DecodeOwner returns the owner of a record. Fields that are missing, or not text,
// are empty: another version or another program may have written them.
func DecodeOwner(encoded leasestate.Owner) Owner {
	var o Owner
	_ = encoded.Decode(&o)
	return o
}

// Has reports whether a MAC is one of the owner's.
func (o Owner) Has(mac net.HardwareAddr) bool { return o.host().Has(mac) }

// encode cannot fail: an Owner is text.
func (o Owner) encode() leasestate.Owner {
	encoded, _ := leasestate.NewOwner(o)
	return encoded
}

// processOwner returns the part of the owner that is the same for all locks of
// this process.
func processOwner() Owner {
	return Owner{AllocID: os.Getenv("NOMAD_ALLOC_ID"), Job: os.Getenv("NOMAD_JOB_NAME")}
}

// on completes the owner of an address with the interface of a link and what other
// hosts see there of this one.
func (o Owner) on(l *link, addr netip.Addr) Owner {
	state, _ := l.state.Get()
	o.Interface, o.MAC = l.name, state.mac.String()
	for _, mac := range state.identity.MACs {
		if other := mac.String(); other != o.MAC {
			o.MACs = append(o.MACs, other)
		}
	}
	if source := state.identity.Source(addr); source.IsValid() {
		o.Host = source.String()
	}
	return o
}

// host is the owner as the wire knows it, without the facts that the owner does not
// tell, because it is an older instance for example.
func (o Owner) host() announcer.Host {
	h := announcer.Host{MACs: parseMACs(append([]string{o.MAC}, o.MACs...))}
	h.Addr, _ = netip.ParseAddr(o.Host)
	return h
}

// macOf returns the MAC of an owner, or nil where the owner does not tell. Frames to
// it are then broadcast.
func macOf(owner leasestate.Owner) net.HardwareAddr {
	mac, _ := net.ParseMAC(DecodeOwner(owner).MAC)
	return mac
}

// parseMACs returns the MACs among texts.
func parseMACs(texts []string) (macs []net.HardwareAddr) {
	for _, text := range texts {
		if mac, err := net.ParseMAC(text); err == nil {
			macs = append(macs, mac)
		}
	}
	return macs
}

// nonceOf returns the nonce of a handover, which its frames carry. A record of an
// older instance has none.
func nonceOf(r leasestate.Record) (n announcer.Nonce) {
	if b, err := hex.DecodeString(r.Nonce); err == nil && len(b) == len(n) {
		copy(n[:], b)
	}
	return n
}
