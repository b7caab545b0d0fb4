package announcer

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// A Verdict is what became of a received frame. Every frame gets exactly one.
type Verdict int

// The verdicts, in the order in which they are considered.
const (
	// VerdictElsewhere: addressed to another host or VLAN, seen by accident.
	VerdictElsewhere Verdict = iota
	// VerdictMalformed: too short for what it says it is.
	VerdictMalformed
	// VerdictForeign: not a request or reply about IPv4 over Ethernet.
	VerdictForeign
	// VerdictProbe: asks without claiming (sender address 0.0.0.0).
	VerdictProbe
	// VerdictOtherAddress: claims an address that nobody here listens for.
	VerdictOtherAddress
	// VerdictBadMAC: claims an address for a MAC that no single station can have.
	VerdictBadMAC
	// VerdictStale: received before anybody here listened for the address.
	VerdictStale
	// VerdictOwn: sent by one of this host's own interfaces.
	VerdictOwn
	// VerdictClaim: another host says that it has the address.
	VerdictClaim

	verdicts // how many there are
)

var verdictNames = [verdicts]string{
	VerdictElsewhere:    "elsewhere",
	VerdictMalformed:    "malformed",
	VerdictForeign:      "foreign",
	VerdictProbe:        "probe",
	VerdictOtherAddress: "other address",
	VerdictBadMAC:       "bad MAC",
	VerdictStale:        "stale",
	VerdictOwn:          "own",
	VerdictClaim:        "claim",
}

// String returns the verdict's name in lower case, such as "other address".
func (v Verdict) String() string {
	if v < 0 || v >= verdicts {
		return fmt.Sprintf("verdict %d", int(v))
	}
	return verdictNames[v]
}

// classify judges one frame. It depends on its arguments alone: of returns who
// listens for an address, own whether a MAC is this host's. The claim and its
// hearers are set for VerdictClaim only.
func classify(in inbound, of func(netip.Addr) []*Listener, own func(net.HardwareAddr) bool) (Verdict, Claim, []*Listener) {
	if in.elsewhere {
		return VerdictElsewhere, Claim{}, nil
	}
	addr, mac, verdict := arpSender(in.payload)
	if verdict != VerdictClaim {
		return verdict, Claim{}, nil
	}
	concerned := of(addr)
	if len(concerned) == 0 {
		return VerdictOtherAddress, Claim{}, nil
	}
	if !individual(mac) {
		return VerdictBadMAC, Claim{}, nil
	}
	var hearers []*Listener
	for _, l := range concerned {
		if !in.received.Before(l.since) {
			hearers = append(hearers, l)
		}
	}
	if len(hearers) == 0 {
		return VerdictStale, Claim{}, nil
	}
	if own(mac) {
		return VerdictOwn, Claim{}, nil
	}
	return VerdictClaim, Claim{Addr: addr, MAC: mac, Received: in.received}, hearers
}

// individual reports whether mac can be one station's: it is neither zero nor a
// group address. Who names another is misconfigured or broken, and is not to be
// believed (RFC 1812, section 3.3.2); moving the address would not help it.
func individual(mac net.HardwareAddr) bool {
	return len(mac) == macLen && mac[0]&1 == 0 && !bytes.Equal(mac, unknownMAC)
}

// tally counts verdicts.
type tally [verdicts]atomic.Uint64

func (t *tally) add(v Verdict) { t[v].Add(1) }

func (t *tally) counts() map[Verdict]uint64 {
	m := make(map[Verdict]uint64, len(t))
	for v := range t {
		m[Verdict(v)] = t[v].Load()
	}
	return m
}
