package announcer

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// A Verdict says how a received frame was classified. Every frame gets exactly one.
type Verdict int

// The verdicts, in the order in which they are checked.
const (
	// VerdictElsewhere: addressed to another host or VLAN.
	VerdictElsewhere Verdict = iota
	// VerdictMalformed: too short, with lengths that IPv4 over Ethernet cannot have, or what
	// RFC 4861, section 7.1, tells hosts to discard.
	VerdictMalformed
	// VerdictForeign: not an ARP request or reply for IPv4 over Ethernet; neither a neighbor
	// solicitation nor an advertisement.
	VerdictForeign
	// VerdictProbe: a probe (sender address 0.0.0.0 or ::).
	VerdictProbe
	// VerdictOtherAddress: claims an address without a Listener.
	VerdictOtherAddress
	// VerdictBadMAC: claims an address for a MAC that is zero or a group address.
	VerdictBadMAC
	// VerdictStale: received before the first Listener of the address was created.
	VerdictStale
	// VerdictOwn: sent by an interface of this host.
	VerdictOwn
	// VerdictClaim: another station says that the address is its own.
	VerdictClaim

	verdicts // the number of verdicts
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

// classify returns what a frame says, with its verdict, and the listeners to deliver a claim
// to. It depends on its arguments alone: decode reads the frame, listenersOf returns the
// listeners of an address, isOwn reports whether a MAC belongs to this host.
func classify(in Inbound, decode func(Inbound) (message, Verdict), listenersOf func(netip.Addr) []*Listener, isOwn func(net.HardwareAddr) bool) (m message, listeners []*Listener) {
	if in.Elsewhere {
		return message{verdict: VerdictElsewhere}, nil
	}
	m, m.verdict = decode(in)
	m.received = in.Received
	if m.verdict == VerdictClaim {
		m.verdict, listeners = m.judge(listenersOf, isOwn)
	}
	return m, listeners
}

// judge returns the verdict on a message whose sender has an address.
func (m message) judge(listenersOf func(netip.Addr) []*Listener, isOwn func(net.HardwareAddr) bool) (Verdict, []*Listener) {
	all := listenersOf(m.sender)
	if len(all) == 0 {
		return VerdictOtherAddress, nil
	}
	if !IsStation(m.mac) {
		return VerdictBadMAC, nil
	}
	var listeners []*Listener
	for _, l := range all {
		if !m.received.Before(l.since) {
			listeners = append(listeners, l)
		}
	}
	if len(listeners) == 0 {
		return VerdictStale, nil
	}
	if isOwn(m.mac) {
		return VerdictOwn, nil
	}
	return VerdictClaim, listeners
}

// IsStation reports whether mac can belong to a single station: it is neither zero
// nor a group address. A frame that claims an address for another MAC comes from a
// misconfigured or broken station and must not be believed (RFC 1812, section
// 3.3.2). To move the address would not help.
func IsStation(mac net.HardwareAddr) bool {
	return len(mac) == macLen && mac[0]&1 == 0 && !bytes.Equal(mac, unknownMAC)
}

// tally counts frames by verdict. It is safe for concurrent use.
type tally [verdicts]atomic.Uint64

func (t *tally) add(v Verdict) { t[v].Add(1) }

func (t *tally) counts() map[Verdict]uint64 {
	m := make(map[Verdict]uint64, len(t))
	for v := range t {
		m[Verdict(v)] = t[v].Load()
	}
	return m
}
