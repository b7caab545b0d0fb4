// Package announcer sends and receives the ARP frames of floating addresses on an
// Ethernet segment. It announces an address, listens for other stations that claim
// it, probes whether it is in use, and exchanges the two frames of a handover.
//
// One [Wire] per interface serves all addresses of that interface through one
// packet socket. Only IPv4 is supported; the ARP format stays in arp.go, so that
// NDP can be added beside it.
//
// # Terms
//
//   - An announcement is a gratuitous ARP request and a gratuitous ARP reply. It
//     tells every station of the segment which MAC has the address.
//   - A claim is a frame in which another station says that the address is its own.
//   - A probe is an ARP request with the sender address 0.0.0.0 (RFC 5227). It asks
//     which station has the address, and no cache learns from it.
//   - Ready and released are the two frames of a handover. Both are probes. The
//     successor sends ready when it waits for the address; the owner sends released
//     after it has removed the address.
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
//   - [Wire.Announce] and [Wire.Probe] block until they have a result, their
//     context ends or the Wire is closed.
//   - [Wire.SendReady] and [Wire.SendReleased] block until the frame has had its
//     turn. Frames have no turn before Run is called.
//   - [Handover.AwaitReady] and [Handover.AwaitReleased] block until the frame has
//     been received, the timeout is over or their context ends.
//   - All others return without waiting for a frame.
package announcer
