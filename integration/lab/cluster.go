package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"
)

// ConsulPort and ConsulTLSPort are where every host's Consul agent listens on the
// loopback interface: for HTTP, and for HTTPS if it has certificates.
const (
	ConsulPort    = 8500
	ConsulTLSPort = 8501
)

// requestTimeout is how long the lab itself waits for an answer by Consul.
const requestTimeout = 10 * time.Second

// Cluster is a Consul cluster with one server on each of some hosts.
type Cluster struct {
	Servers []*Server
}

// ClusterConfig says how a cluster is set up.
type ClusterConfig struct {
	// RaftMultiplier is Consul's own setting. Consul's default is 5; 1 makes elections
	// quick and is what Consul recommends for production. 0 means 1.
	RaftMultiplier int
	// Token turns ACLs on, with the default policy "deny". It is the only token, must be
	// a UUID and may do everything.
	Token string
	// TLS has the agents also speak HTTPS, with clients that show a certificate.
	TLS *Certificates
}

// Server is the Consul server of one host. Its methods are safe for concurrent use,
// except that only one goroutine may start and kill it.
type Server struct {
	Host *Host
	API  *api.Client // of this host's agent

	bin     string
	config  string // file
	process *Process
}

// startCluster starts a Consul server on each of the hosts and waits until the cluster
// is ready.
func startCluster(ctx context.Context, bin string, config ClusterConfig, hosts []*Host) (*Cluster, error) {
	c := new(Cluster)
	var join []string
	for _, h := range hosts {
		join = append(join, h.Addr.String())
	}
	for _, h := range hosts {
		s, err := newServer(bin, h, config, join)
		if err != nil {
			return nil, err
		}
		if err := s.Start(); err != nil {
			return nil, err
		}
		c.Servers = append(c.Servers, s)
	}
	return c, c.WaitReady(ctx)
}

// agent returns the configuration of any Consul agent on a host. It turns off all that
// the lab does not use.
func (c ClusterConfig) agent(h *Host, join []string) map[string]any {
	ports := map[string]int{"http": ConsulPort, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1}
	config := map[string]any{
		"node_name":               h.Name,
		"data_dir":                filepath.Join(h.Dir, "consul"),
		"bind_addr":               h.Addr.String(),
		"client_addr":             "127.0.0.1",
		"retry_join":              join,
		"retry_interval":          "1s",
		"ports":                   ports,
		"connect":                 map[string]bool{"enabled": false},
		"disable_update_check":    true,
		"leave_on_terminate":      false,
		"skip_leave_on_interrupt": true,
		"log_level":               "info",
		"log_file":                filepath.Join(h.Dir, "consul.log"),
	}
	if c.Token != "" {
		config["acl"] = map[string]any{
			"enabled": true, "default_policy": "deny",
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

// newServer writes the configuration of a server that does not run yet.
func newServer(bin string, h *Host, config ClusterConfig, join []string) (*Server, error) {
	text, err := json.Marshal(config.server(h, join))
	if err != nil {
		return nil, err
	}
	s := &Server{Host: h, bin: bin}
	if s.config, err = h.WriteFile("consul.json", text); err != nil {
		return nil, err
	}
	s.API, err = api.NewClient(&api.Config{
		Address: fmt.Sprintf("127.0.0.1:%d", ConsulPort),
		Token:   config.Token,
		HttpClient: &http.Client{
			Transport: &http.Transport{DialContext: h.Dial, MaxIdleConnsPerHost: 1},
			Timeout:   requestTimeout,
		},
	})
	return s, err
}

// Start starts the server, which must not be running.
func (s *Server) Start() (err error) {
	s.process, err = s.Host.Start(Command{Args: []string{s.bin, "agent", "-config-file=" + s.config}})
	return err
}

// Kill ends the server as a crash of its machine does.
func (s *Server) Kill() error { return s.process.Kill() }

// Freeze stops the server without ending it: it neither answers nor closes a
// connection.
func (s *Server) Freeze(ctx context.Context) error { return s.process.Freeze(ctx) }

// Thaw undoes Freeze.
func (s *Server) Thaw() error { return s.process.Signal(syscall.SIGCONT) }

// WaitReady waits until every server knows a leader, and all servers are healthy and
// may vote.
func (c *Cluster) WaitReady(ctx context.Context) error {
	for _, s := range c.Servers {
		if err := Await(ctx, func() error { return c.ready(s) }); err != nil {
			return fmt.Errorf("consul on %s: %w", s.Host.Name, err)
		}
	}
	return nil
}

// ready returns an error unless this server takes the whole cluster for ready.
func (c *Cluster) ready(s *Server) error {
	for _, peer := range c.Servers {
		// Without a join, a server tries to reach a lost one only every 30 s.
		if err := s.API.Agent().Join(peer.Host.Addr.String(), false); err != nil {
			return err
		}
	}
	leader, err := s.API.Status().Leader()
	if err != nil {
		return err
	}
	if leader == "" {
		return errors.New("no leader yet")
	}
	health, err := s.API.Operator().AutopilotServerHealth(nil)
	if err != nil {
		return err
	}
	voters := 0
	for _, h := range health.Servers {
		if h.Healthy && h.Voter {
			voters++
		}
	}
	if voters != len(c.Servers) {
		return fmt.Errorf("%d of %d servers are ready", voters, len(c.Servers))
	}
	// Consul makes no session for an agent that is not in the catalog.
	_, _, err = s.API.Catalog().Node(s.Host.Name, &api.QueryOptions{RequireConsistent: true})
	return err
}

// Leader returns the server that is the cluster's leader, as the first server that
// answers says.
func (c *Cluster) Leader() (*Server, error) {
	var errs []error
	for _, asked := range c.Servers {
		leader, err := asked.API.Status().Leader()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, s := range c.Servers {
			if leader == s.Host.Addr.String()+":8300" {
				return s, nil
			}
		}
	}
	return nil, errors.Join(append(errs, errors.New("the cluster has no leader"))...)
}

// Of returns the server of a host, or nil.
func (c *Cluster) Of(h *Host) *Server {
	for _, s := range c.Servers {
		if s.Host == h {
			return s
		}
	}
	return nil
}
