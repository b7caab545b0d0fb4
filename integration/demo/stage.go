package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	vip = "10.77.0.100"

	// hcl is the whole configuration of every host.
	hcl = `vip "` + vip + `" {}` + "\n"

	// settings for the log only, in a file of their own.
	logHCL = "log_json = true\n"

	// patience is how long any step may take.
	patience = 45 * time.Second
)

// stage is the lab with everything that the demonstration needs.
type stage struct {
	narrator
	lab.Hosts
	lab       *lab.Lab
	binary    string
	addr      netip.Addr
	witness   *lab.Observer
	instances map[*lab.Host]*lab.Process
}

// newStage builds the lab and starts Consul.
func newStage(ctx context.Context, consul, binary string) (s *stage, err error) {
	s = &stage{
		narrator:  narrator{out: os.Stdout, began: time.Now()},
		binary:    binary,
		addr:      netip.MustParseAddr(vip),
		instances: make(map[*lab.Host]*lab.Process),
	}
	s.title("Three hosts, a client and an observer on one Ethernet segment")
	if s.lab, err = lab.New(""); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.Hosts, err = s.lab.AddHosts(); err != nil {
		return nil, err
	}
	for _, h := range s.Servers {
		s.sees("%s has %s and the MAC %s", h.Name, h.Addr, h.MAC)
	}
	s.does("starting a Consul server on each host")
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := time.Now()
	cluster, err := lab.StartCluster(ctx, consul, lab.ClusterConfig{RaftMultiplier: 1}, s.Servers)
	if err != nil {
		return nil, err
	}
	leader, err := cluster.Leader()
	if err != nil {
		return nil, err
	}
	s.sees("the cluster is ready after %.1f s, led by %s", time.Since(began).Seconds(), leader.Host.Name)
	s.witness, err = s.Observer.NewObserver(10*time.Millisecond, s.addr)
	return s, err
}

// close ends everything.
func (s *stage) close() error {
	if s.witness != nil {
		s.witness.Stop()
	}
	return s.lab.Close()
}

// start starts consul-vip on a host and waits until it contends.
func (s *stage) start(ctx context.Context, h *lab.Host) error {
	dir := filepath.Join(h.Dir, "consul-vip.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"vip.hcl": hcl, "log.hcl": logHCL} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	p, err := h.Start(lab.Command{Args: []string{s.binary, "agent", "-config=" + dir}})
	if err != nil {
		return err
	}
	s.instances[h] = p
	return lab.Await(ctx, func() error {
		for _, e := range p.Entries() {
			if e.Get("state") != "" {
				return nil
			}
		}
		return fmt.Errorf("consul-vip on %s says: %s", h.Name, p)
	})
}

// owners returns the hosts that have the address, as "ip address" shows it.
func (s *stage) owners(ctx context.Context) ([]*lab.Host, error) {
	var owners []*lab.Host
	for _, h := range s.Servers {
		owns, err := h.Owns(ctx, s.addr)
		if err != nil {
			return nil, err
		}
		if owns {
			owners = append(owners, h)
		}
	}
	return owners, nil
}

// owner waits until one host other than old has the address and answers the client.
func (s *stage) owner(ctx context.Context, client *lab.Client, old *lab.Host) (owner *lab.Host, err error) {
	return owner, lab.Await(ctx, func() error {
		owners, err := s.owners(ctx)
		if err != nil {
			return err
		}
		if len(owners) != 1 || owners[0] == old {
			return fmt.Errorf("%s should be on exactly one host, and on a new one, but is on %s", vip, names(owners))
		}
		owner = owners[0]
		if by := client.AnsweredBy(); by != owner.Name {
			return fmt.Errorf("%s has the address but the client is answered by %q", owner.Name, by)
		}
		return nil
	})
}

// names lists hosts for a reader.
func names(hosts []*lab.Host) string {
	if len(hosts) == 0 {
		return "none"
	}
	var list []string
	for _, h := range hosts {
		list = append(list, h.Name)
	}
	return strings.Join(list, " and ")
}
