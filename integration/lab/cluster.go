package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"
)

// ConsulPort and ConsulTLSPort are where every host's Consul agent listens for
// HTTP and, if it is to speak TLS, HTTPS on the loopback interface.
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
	// RaftMultiplier is Consul's own: 5 is its default, 1 is what it recommends for
	// production and what makes elections quick.
	RaftMultiplier int
	// Token turns ACLs on, with everything denied by default but to this token, which
	// may do everything. It must be a UUID.
	Token string
	// TLS has the agents speak HTTPS as well, with those that show a certificate.
	TLS *Certificates
}

// Server is the Consul server of one host. Its methods are safe for concurrent
// use, except that only one goroutine may start and kill it.
type Server struct {
	Host *Host
	API  *api.Client // asks this host's agent, as its own programs do

	bin     string
	config  string // directory
	process *Process
}

// StartCluster starts Consul on the hosts and waits until it has elected a
// leader.
func StartCluster(ctx context.Context, bin string, config ClusterConfig, hosts []*Host) (*Cluster, error) {
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

// server returns a Consul configuration with everything off that the lab
// has no use for.
func (c ClusterConfig) server(h *Host, join []string) map[string]any {
	ports := map[string]int{"http": ConsulPort, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1}
	config := map[string]any{
		"node_name":               h.Name,
		"server":                  true,
		"bootstrap_expect":        len(join),
		"data_dir":                filepath.Join(h.Dir, "consul"),
		"bind_addr":               h.Addr.String(),
		"client_addr":             "127.0.0.1",
		"retry_join":              join,
		"retry_interval":          "1s",
		"performance":             map[string]any{"raft_multiplier": c.RaftMultiplier},
		"autopilot":               map[string]string{"server_stabilization_time": "1s"},
		"ports":                   ports,
		"connect":                 map[string]bool{"enabled": false},
		"peering":                 map[string]bool{"enabled": false},
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

// newServer writes the configuration of a server that isn't running yet.
func newServer(bin string, h *Host, config ClusterConfig, join []string) (*Server, error) {
	s := &Server{Host: h, bin: bin, config: filepath.Join(h.Dir, "consul.d")}
	if err := os.MkdirAll(s.config, 0o755); err != nil {
		return nil, err
	}
	text, err := json.Marshal(config.server(h, join))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(s.config, "consul.json"), text, 0o644); err != nil {
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
	s.process, err = s.Host.Start(Command{Args: []string{s.bin, "agent", "-config-dir=" + s.config}})
	return err
}

// Kill ends the server as a crash of its machine would.
func (s *Server) Kill() error { return s.process.Kill() }

// Freeze stops the server in its tracks: it neither answers nor closes a connection.
func (s *Server) Freeze() error { return s.process.Signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (s *Server) Thaw() error { return s.process.Signal(syscall.SIGCONT) }

// WaitReady waits until every server knows a leader and all its peers are alive
// and may vote.
func (c *Cluster) WaitReady(ctx context.Context) error {
	for _, s := range c.Servers {
		if err := Await(ctx, func() error { return c.ready(s) }); err != nil {
			return fmt.Errorf("consul on %s: %w", s.Host.Name, err)
		}
	}
	return nil
}

func (c *Cluster) ready(s *Server) error {
	for _, peer := range c.Servers {
		// By itself, a server looks for a lost one only every 30 s.
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
	alive := 0
	for _, h := range health.Servers {
		if h.Healthy && h.Voter {
			alive++
		}
	}
	if alive != len(c.Servers) {
		return fmt.Errorf("%d of %d servers are ready", alive, len(c.Servers))
	}
	// The agent itself must be in the catalog, or no session can be made.
	_, _, err = s.API.Catalog().Node(s.Host.Name, &api.QueryOptions{RequireConsistent: true})
	return err
}

// Leader returns the server that is the cluster's leader, as a server that
// answers has it.
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

// Of returns the server of a host.
func (c *Cluster) Of(h *Host) *Server {
	for _, s := range c.Servers {
		if s.Host == h {
			return s
		}
	}
	return nil
}
