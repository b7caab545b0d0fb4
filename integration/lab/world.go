package lab

import "fmt"

// World is a way to run Consul, by the name that commands have for it.
type World string

const (
	// Clients is how Consul is usually run: a client agent on each host, the servers on
	// machines elsewhere, and a network that is not the one of the floating addresses.
	// There is a gateway.
	Clients World = "clients"
	// ServersOnHosts has a Consul server on each host, and a single network without a
	// gateway.
	ServersOnHosts World = "servers"
)

// Worlds are all of them.
var Worlds = []World{Clients, ServersOnHosts}

// Cluster returns how to set up Consul.
func (w World) Cluster() ClusterConfig {
	return ClusterConfig{ClientAgents: w == Clients, ConsulNetwork: w == Clients, Gateway: w == Clients}
}

// String and Set implement [flag.Value].
func (w *World) String() string { return string(*w) }

// Set takes the name of a world.
func (w *World) Set(name string) error {
	for _, known := range Worlds {
		if name == string(known) {
			*w = known
			return nil
		}
	}
	return fmt.Errorf("must be %s or %s", Clients, ServersOnHosts)
}
