// Package announcer sends and receives the frames of floating addresses on an Ethernet
// segment: ARP for IPv4, neighbor discovery for IPv6. It announces an address, listens for
// other stations that claim it, proves that no station has it, exchanges the two frames of
// a handover, and checks whether other hosts are alive.
//
// One [Wire] serves all addresses of a [Family] on an interface through one packet socket.
// A family differs from the other by its protocol: how to encode and to decode, in arp.go
// and ndp.go.
//
// # Terms
//
//   - An announcement is a gratuitous ARP request and a gratuitous ARP reply, or an
//     unsolicited neighbor advertisement. It tells every station of the segment which
//     MAC has the address.
//   - A claim is a frame in which another station says that the address is its own.
//   - A probe asks which station has the address, and claims nothing: an ARP request
//     with the sender address 0.0.0.0 (RFC 5227), or a neighbor solicitation, to
//     everybody from the address :: (RFC 4862).
//   - Ready and released are the two frames of a handover. Both are probes, and carry
//     the [Nonce] of the handover. The successor sends ready when it waits for the
//     address; the owner sends released after it has removed the address.
//   - An echo is a request for a host's own address, sent from an address of this
//     host. Its answer shows that the host is alive.
//   - A witness is a host whose answers show that other stations hear this one.
//
// # Proof
//
// [Wire.Prove] is called before an address is bound. It sends each previous owner a
// probe for the address and right after it an echo:
//
//	address answered   host answered   meaning
//	yes                any             it has the address: probe again
//	no                 yes             it has let the address go
//	no                 no              nothing, unless a witness answers meanwhile
//
// The owner's kernel answers in order, and Ethernet keeps the order. So the second row
// is true unless the answer for the address got lost; as many such rounds in a row are
// needed as make that improbable on this link. Silence takes [WitnessedSilence], or
// [LoneSilence] if there is no witness.
//
// # Host check
//
// [Wire.CheckHost] sends an echo once per interval, and tells after several missed
// intervals in a row that the host is dead. An interval counts as missed only if a
// witness has answered in it and this process was on time.
//
// # Loss
//
// [Wire.MeasureLoss] sends echoes to a host that may one day have to prove that it has let
// an address go, so that Prove knows how much the link to it loses.
//
// # Concurrency
//
// [Open] starts no goroutine. [Wire.Run] starts three and joins them:
//
//   - The reader receives frames, gives each a [Verdict] and delivers it to the
//     subscribers. It never waits for a subscriber; of the caller's code it calls
//     only [Options.Own].
//   - The pacer sends the frames that wait for their turn.
//   - The closer closes the Wire when the context ends, because nothing else
//     interrupts a read.
//
// All methods may be called from any goroutine. They run in the goroutine of the
// caller and block as follows:
//
//   - [Wire.Announce], [Wire.CheckHost] and [Wire.MeasureLoss] block until their context
//     ends or the Wire is closed.
//   - [Wire.Prove] blocks until it has a result, its context ends or the Wire is
//     closed. It starts one goroutine for each station that may have the address, and
//     joins them.
//   - [Wire.SendReady] and [Wire.SendReleased] block until the frame has had its
//     turn. Frames have no turn before Run is called.
//   - [Handover.AwaitReady] and [Handover.AwaitReleased] block until the frame has
//     been received, the timeout is over or their context ends.
//   - All others return without waiting for a frame.
package announcer
