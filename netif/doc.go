// Package netif manages floating addresses in the kernel. It finds the interface
// of an address, binds and unbinds addresses that expire by themselves, tells what
// other hosts can see of this one, and reports changes of addresses, links and default
// routes.
//
// Every address it binds has a lifetime, so the kernel removes the address when the
// process is killed, is frozen or hangs. Every address it binds also carries a [Tag],
// the address protocol 118 or 119 (IFA_PROTO, Linux 5.18 and newer; recent versions of
// "ip address" show "proto 0x76" or "proto 0x77"). The tag tells the leftovers of a previous process
// from the addresses of other programs. An older kernel silently drops the tag: there
// a leftover looks foreign, and [Host.Bind] refuses it until it has expired, a few
// seconds later.
//
// # Concurrency
//
// The package starts no goroutine. [Open] takes the network namespace of the calling
// thread; all later calls work in that namespace, on any thread.
//
//   - All methods of [Host] and [Address] except [Host.Watch] and [Host.Close] may be
//     called by several goroutines at the same time. A Host sends one netlink request
//     at a time, and the other callers wait for its answer. No method takes a context:
//     none blocks longer than a few netlink requests, which the kernel answers at once.
//   - An [Address] orders its own calls: Unbind waits for a Refresh that is running,
//     and no later Refresh binds the address again.
//   - [Host.Watch] runs in the goroutine of its caller until its context ends. A Host
//     has at most one Watch at a time, which alone reads the socket of the events. The
//     channel belongs to the caller: Watch sends on it and never closes it.
//   - [Host.Close] comes last. Only a Watch may still be running; it then ends with an
//     error.
package netif
