package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
)

// NomadPort is where every host's Nomad agent listens for HTTP, Nomad's default.
const NomadPort = 4646

// inPrivate runs a program as the first process of a PID namespace of its own, with
// its own mounts and without access to the control groups. Otherwise Nomad makes
// control groups, and its tasks, which are not children of the lab, outlive it. The
// kernel ends the tasks and removes their mounts with the namespaces.
const inPrivate = `if mountpoint -q /sys/fs/cgroup; then umount -R -l /sys/fs/cgroup; fi; exec "$@"`

// NomadConfig says how a Nomad cluster is set up.
type NomadConfig struct {
	// ConsulToken is the token of the agents, and of the commands that Run runs, for a
	// Consul with ACLs.
	ConsulToken string
}

// NomadCluster is a Nomad cluster with a client on each of some hosts and one
// server. All methods are safe for concurrent use.
type NomadCluster struct {
	bin    string
	config NomadConfig
	server *Host // it is a client too
	hosts  []*Host
	http   *http.Client
}

// StartNomad starts a Nomad client on each of the hosts, and the server on the first,
// and waits until each can run tasks. It must run as the machine's root, because Nomad
// gives directories to other users.
func StartNomad(ctx context.Context, bin string, config NomadConfig, hosts []*Host) (*NomadCluster, error) {
	n := &NomadCluster{
		bin: bin, config: config, server: hosts[0], hosts: hosts,
		http: &http.Client{
			Transport: &http.Transport{DialContext: hosts[0].Dial, MaxIdleConnsPerHost: 1},
			Timeout:   requestTimeout,
		},
	}
	var agents []*Process
	for _, h := range hosts {
		p, err := n.start(h)
		if err != nil {
			return nil, err
		}
		agents = append(agents, p)
	}
	if err := Await(ctx, n.ready); err != nil {
		return nil, fmt.Errorf("nomad: %w; the agents wrote:\n%s", err, agents)
	}
	return n, nil
}

// start starts the agent of a host.
func (n *NomadCluster) start(h *Host) (*Process, error) {
	text, err := json.Marshal(n.agent(h))
	if err != nil {
		return nil, err
	}
	file, err := h.WriteFile("nomad.json", text)
	if err != nil {
		return nil, err
	}
	return h.Start(Command{Args: []string{
		"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-e", "-c", inPrivate, "nomad", n.bin, "agent", "-config=" + file,
	}})
}

// agent returns a Nomad configuration that writes only into the host's directory and
// contacts nothing outside the lab.
func (n *NomadCluster) agent(h *Host) map[string]any {
	return map[string]any{
		"name":                 h.Name,
		"data_dir":             filepath.Join(h.Dir, "nomad"),
		"bind_addr":            h.Addr.String(),
		"disable_update_check": true,
		"log_file":             filepath.Join(h.Dir, "nomad.log"),
		"server":               map[string]any{"enabled": h == n.server, "bootstrap_expect": 1},
		"client": map[string]any{
			"enabled":           true,
			"servers":           []string{fmt.Sprintf("%s:4647", n.server.Addr)},
			"network_interface": "eth0",
			"cpu_total_compute": 4000, // MHz: Nomad cannot find it out on some virtual machines
			"options": map[string]string{
				"driver.allowlist":     "raw_exec",
				"fingerprint.denylist": "bridge,cni,env_aws,env_azure,env_digitalocean,env_gce,vault",
			},
		},
		"plugin": map[string]any{"raw_exec": map[string]any{"config": map[string]any{"enabled": true}}},
		"consul": map[string]any{
			"auto_advertise": false, "server_auto_join": false, "client_auto_join": false, "token": n.config.ConsulToken,
		},
	}
}

// ready returns an error unless every host's client can run tasks.
func (n *NomadCluster) ready() error {
	var nodes []struct {
		Status  string
		Drivers map[string]struct{ Healthy bool }
	}
	if err := n.Get("/v1/nodes", &nodes); err != nil {
		return err
	}
	count := 0
	for _, node := range nodes {
		if node.Status == "ready" && node.Drivers["raw_exec"].Healthy {
			count++
		}
	}
	if count != len(n.hosts) {
		return fmt.Errorf("%d of %d clients are ready", count, len(n.hosts))
	}
	return nil
}

// Address returns the URL of the server.
func (n *NomadCluster) Address() string { return fmt.Sprintf("http://%s:%d", n.server.Addr, NomadPort) }

// Run runs a command of the nomad binary, as an operator does, and returns its standard
// output.
func (n *NomadCluster) Run(ctx context.Context, args ...string) (string, error) {
	out, err := n.server.Run(ctx, Command{
		Args: append([]string{n.bin}, args...),
		Env:  []string{"NOMAD_ADDR=" + n.Address(), "NOMAD_CLI_NO_COLOR=1", "CONSUL_HTTP_TOKEN=" + n.config.ConsulToken},
	})
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return string(out), err
}

// Get reads a path of the server's HTTP API and decodes the answer into v.
func (n *NomadCluster) Get(path string, v any) error {
	answer, err := n.http.Get(n.Address() + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("nomad: %s: %s: %s", path, answer.Status, text)
	}
	return json.NewDecoder(answer.Body).Decode(v)
}

// NodeID returns the ID of a host's client.
func (n *NomadCluster) NodeID(h *Host) (string, error) {
	var nodes []struct{ ID, Name string }
	if err := n.Get("/v1/nodes", &nodes); err != nil {
		return "", err
	}
	for _, node := range nodes {
		if node.Name == h.Name {
			return node.ID, nil
		}
	}
	return "", fmt.Errorf("nomad knows no node %s", h.Name)
}
