// Package integration tests the built consul-vip binary on real interfaces with
// a real Consul, in the lab of package lab: what the client of an address and an
// observer on the wire see, what "ip address" shows on every host, what
// Consul's KV says, and how the process ends.
//
// The tests run where network namespaces may be made and a Consul binary is found;
// those under Nomad where a Nomad binary is found, too, and by root only. With
// CONSUL_VIP_INTEGRATION=1, as by "make test", they see to what they need: an
// ordinary user's run enters a user namespace, and a missing Consul or Nomad is built.
package integration
