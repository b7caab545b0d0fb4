// Package integration tests the built consul-vip binary on real interfaces with a real
// Consul, in the lab of package lab. The tests look at what the client of an address and
// an observer on the wire see, at "ip address" on every host, at Consul's KV, and at how
// the process ends.
//
// The tests run with INTEGRATION=1, which "make test" sets, and are skipped
// without it. They provide what they need: an ordinary user's run enters a user
// namespace, and a missing Consul or Nomad is built. Those under Nomad need the machine's
// root.
//
// Most of a test's time is waiting. A test runs at the same time as others, by
// [testing.T.Parallel], if it harms no host, agent, cable or switch of a lab that it
// shares, and if nothing in it depends on how long a client is without an answer but
// what a tenure requires. Such tests come after all others.
package integration
