package lab

import (
	"cmp"
	"net/netip"
	"path/filepath"
)

// ConsulPort and ConsulTLSPort are where every host's Consul agent listens on the
// loopback interface: for HTTP, and for HTTPS if it has certificates.
const (
	ConsulPort    = 8500
	ConsulTLSPort = 8501
)

// ClusterConfig says how a cluster is set up. In the zero value, each of h1, h2 and h3
// has a server, and Consul uses the segment of the floating addresses.
type ClusterConfig struct {
	// ClientAgents has client agents on h1, h2 and h3, and the servers on machines of
	// their own.
	ClientAgents bool
	// ConsulNetwork gives Consul a network of its own: every machine has a second
	// interface for it, and the servers' own machines have only that one.
	ConsulNetwork bool
	// Gateway gives the segment of the floating addresses a gateway, by which h1, h2 and
	// h3 have their default route.
	Gateway bool
	// IPv6Only gives no machine an IPv4 address but that of its loopback interface. Consul
	// is reached, and its agents reach each other, by IPv6 alone.
	IPv6Only bool
	// RaftMultiplier is Consul's own setting. Consul's default is 5; 1 makes elections
	// quick and is what Consul recommends for production. 0 means 1.
	RaftMultiplier int
	// Token turns ACLs on, with the default policy "deny". It is the only token, must be
	// a UUID and may do everything.
	Token string
	// TLS has the agents also speak HTTPS, with clients that show a certificate.
	TLS *Certificates
}

// agent returns the configuration of a client agent on a host, for servers with the
// addresses in join. It turns off all that the lab does not use.
func (c ClusterConfig) agent(h *Host, join []string) map[string]any {
	ports := map[string]int{"http": ConsulPort, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1}
	config := map[string]any{
		"node_name":               h.Name,
		"data_dir":                h.dataDir,
		"bind_addr":               h.ConsulAddr.String(),
		"client_addr":             h.Loopback.String(),
		"retry_join":              join,
		"retry_interval":          "1s",
		"ports":                   ports,
		"connect":                 map[string]bool{"enabled": false},
		"disable_update_check":    true,
		"leave_on_terminate":      false,
		"skip_leave_on_interrupt": true,
		"log_level":               "info",
		"log_file":                h.ConsulLog(),
	}
	if c.Token != "" {
		config["acl"] = map[string]any{
			"enabled": true, "default_policy": "deny",
			// Only servers use the first one.
			"tokens": map[string]string{"initial_management": c.Token, "agent": c.Token},
		}
	}
	if c.TLS != nil {
		ports["https"] = ConsulTLSPort
		config["tls"] = map[string]any{"https": map[string]any{
			"verify_incoming": true, "ca_file": c.TLS.CA, "cert_file": c.TLS.Server.Cert, "key_file": c.TLS.Server.Key,
		}}
	}
	return config
}

// server returns the configuration of a Consul server on a host. The servers of the
// cluster have the addresses in join.
func (c ClusterConfig) server(h *Host, join []string) map[string]any {
	config := c.agent(h, join)
	config["server"] = true
	config["bootstrap_expect"] = len(join)
	config["performance"] = map[string]any{"raft_multiplier": cmp.Or(c.RaftMultiplier, 1)}
	config["autopilot"] = map[string]string{"server_stabilization_time": "1s"}
	config["peering"] = map[string]bool{"enabled": false}
	return config
}

// ConsulHTTP is where the host's Consul agent speaks HTTP, as seen from the host.
func (h *Host) ConsulHTTP() string { return netip.AddrPortFrom(h.Loopback, ConsulPort).String() }

// serf is where other agents find the host's.
func (h *Host) serf() string { return netip.AddrPortFrom(h.ConsulAddr, 8301).String() }

// ConsulLog returns the file with the log of the host's Consul agent.
func (h *Host) ConsulLog() string { return filepath.Join(h.Dir, "consul.log") }
