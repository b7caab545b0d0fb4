package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	vip = "10.77.0.100"

	// hcl is what a user has to configure.
	hcl = `vip "` + vip + `" {}`

	// logHCL lets the demonstration read the log.
	logHCL = "log_json = true"

	// stepTimeout is how long any step may take.
	stepTimeout = 45 * time.Second
)

// demoLab is the lab with the address and the instances that the demonstration shows.
type demoLab struct {
	*lab.Lab
	narrator
	addr      netip.Addr
	instances map[*lab.Host]*lab.Process
}

// newDemoLab starts the lab and describes it.
func newDemoLab(ctx context.Context, p lab.Programs) (*demoLab, error) {
	d := &demoLab{
		narrator:  narrator{out: os.Stdout, began: time.Now()},
		addr:      netip.MustParseAddr(vip),
		instances: make(map[*lab.Host]*lab.Process),
	}
	d.title("Three hosts, a client and an observer on one Ethernet segment")
	d.does("starting a Consul server on each host")
	began := time.Now()
	var err error
	d.Lab, err = lab.Start(ctx, lab.Config{Programs: p, Observe: []netip.Addr{d.addr}})
	if err != nil {
		return nil, err
	}
	for _, h := range d.Servers {
		d.sees("%s has %s and the MAC %s", h.Name, h.Addr, h.MAC)
	}
	leader, err := d.Cluster.Leader()
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.sees("the cluster is ready after %.1f s; its leader is %s", time.Since(began).Seconds(), leader.Host.Name)
	return d, nil
}

// start starts consul-vip on a host and waits until it waits for the lock or has it.
func (d *demoLab) start(ctx context.Context, h *lab.Host) error {
	p, err := d.StartAgent(h, "consul-vip.hcl", hcl+"\n"+logHCL+"\n")
	if err != nil {
		return err
	}
	d.instances[h] = p
	return lab.Await(ctx, func() error {
		if p.States()[vip] == "" {
			return fmt.Errorf("consul-vip on %s has no state yet:\n%s", h.Name, p)
		}
		return nil
	})
}
