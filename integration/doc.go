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
// Most tests spend their time waiting. A test may call [testing.T.Parallel] if it harms no
// host, Consul agent, cable or switch of a shared lab, and compares no time without an
// answer with a bound tighter than longestGap. Parallel tests run after all others.
package integration
