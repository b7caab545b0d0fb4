package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// keepalived is Debian's keepalived with this interval between adverts and defaults
// for all else.
type keepalived struct{ advert time.Duration }

func (k keepalived) name() string          { return fmt.Sprintf("keepalived %v", k.advert) }
func (keepalived) needsConsul() bool       { return false }
func (keepalived) killsAll() bool          { return true }
func (keepalived) oldKeepsAnswering() bool { return false }
func (keepalived) elects() bool            { return true }
func (keepalived) lockKey(*entry) string   { return "" }

func (k keepalived) command(e *entry, h *lab.Host, rank int) (lab.Command, error) {
	file, err := h.WriteFile(filepath.Join(e.id(), "keepalived.conf"), []byte(k.config(e, h, rank)))
	dir := filepath.Dir(file)
	return lab.Command{Args: []string{
		e.programs.keepalived, "-n", "-l", "-D", "-f", file,
		"-p", filepath.Join(dir, "keepalived.pid"), "-r", filepath.Join(dir, "vrrp.pid"),
	}}, err
}

// config returns the configuration, as an administrator writes it. An interval of less
// than a second needs version 3 of the protocol.
func (k keepalived) config(e *entry, h *lab.Host, rank int) string {
	state, version := "BACKUP", 2
	if rank == 0 {
		state = "MASTER"
	}
	if k.advert < time.Second {
		version = 3
	}
	return fmt.Sprintf(`global_defs {
	router_id %s
	vrrp_version %d
}
vrrp_instance bench {
	state %s
	interface eth0
	virtual_router_id %d
	priority %d
	advert_int %g
	virtual_ipaddress {
		%s/32 dev eth0
	}
}
`, h.Name, version, state, 51+e.number, []int{150, 100, 50}[rank], k.advert.Seconds(), e.addr)
}

// ready looks for the state in the log.
func (keepalived) ready(_ *entry, p *lab.Process, rank int) error {
	want := "Entering BACKUP STATE"
	if rank == 0 {
		want = "Entering MASTER STATE"
	}
	if !strings.Contains(p.String(), want) {
		return fmt.Errorf("keepalived on %s has not logged %q", p.Host.Name, want)
	}
	return nil
}
