package lab

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"
)

// requestTimeout is how long the lab itself waits for an answer by Consul.
const requestTimeout = 10 * time.Second

// ConsulAgent is the Consul agent of one host, a server or a client. Its methods are
// safe for concurrent use.
type ConsulAgent struct {
	Host *Host
	API  *api.Client

	bin    string
	config string // file

	mu      sync.Mutex // guards all following fields
	process *Process   // the newest
}

// newConsulAgent writes the configuration of an agent that does not run yet.
func newConsulAgent(bin string, h *Host, token string, config map[string]any) (*ConsulAgent, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	a := &ConsulAgent{Host: h, bin: bin}
	if a.config, err = h.WriteFile("consul.json", text); err != nil {
		return nil, err
	}
	a.API, err = api.NewClient(&api.Config{
		Address: h.ConsulHTTP(),
		Token:   token,
		HttpClient: &http.Client{
			Transport: &http.Transport{DialContext: h.Dial, MaxIdleConnsPerHost: 1},
			Timeout:   requestTimeout,
		},
	})
	return a, err
}

// Start starts the agent, which must not be running.
func (a *ConsulAgent) Start() (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.process, err = a.Host.Start(Command{Args: []string{a.bin, "agent", "-config-file=" + a.config}})
	return err
}

// current returns the process that was started last.
func (a *ConsulAgent) current() *Process {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.process
}

// Stop ends the agent as a service manager does, by SIGTERM. It does not leave the
// cluster.
func (a *ConsulAgent) Stop(ctx context.Context) error {
	p := a.current()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_, err := p.Wait(ctx)
	return err
}

// Kill ends the agent as a crash of its machine does.
func (a *ConsulAgent) Kill() error { return a.current().Kill() }

// Freeze stops the agent without ending it: it neither answers nor closes a
// connection.
func (a *ConsulAgent) Freeze(ctx context.Context) error { return a.current().Freeze(ctx) }

// Signal sends a signal to the agent. The error is [os.ErrProcessDone] if it does not run.
func (a *ConsulAgent) Signal(sig os.Signal) error { return a.current().Signal(sig) }

// Thaw undoes Freeze.
func (a *ConsulAgent) Thaw() error { return a.Signal(syscall.SIGCONT) }

// alive returns an error unless the catalog has the agent's node, and takes it for
// alive: Consul makes no session for a node that is not.
func (a *ConsulAgent) alive() error {
	checks, _, err := a.API.Health().Node(a.Host.Name, &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		return err
	}
	for _, c := range checks {
		if c.CheckID == "serfHealth" && c.Status == api.HealthPassing {
			return nil
		}
	}
	return errors.New("its node is not alive in the catalog")
}
