package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Address is an address of an interface as "ip -json address" shows it.
type Address struct {
	Interface string
	Prefix    netip.Prefix
}

// Addresses returns all IPv4 addresses of the host as "ip address" shows them,
// without the loopback interface's.
func (h *Host) Addresses(ctx context.Context) ([]Address, error) {
	out, err := h.Run(ctx, Command{Args: []string{"ip", "-json", "-4", "address", "show"}})
	if err != nil {
		return nil, err
	}
	var links []struct {
		Ifname string `json:"ifname"`
		Info   []struct {
			Local     netip.Addr `json:"local"`
			Prefixlen int        `json:"prefixlen"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal(out, &links); err != nil {
		return nil, fmt.Errorf("output of ip on %s: %w", h.Name, err)
	}
	var addrs []Address
	for _, link := range links {
		if link.Ifname == "lo" {
			continue
		}
		for _, i := range link.Info {
			addrs = append(addrs, Address{link.Ifname, netip.PrefixFrom(i.Local, i.Prefixlen)})
		}
	}
	return addrs, nil
}

// Owns says if the host has an address bound, on any interface.
func (h *Host) Owns(ctx context.Context, addr netip.Addr) (bool, error) {
	addrs, err := h.Addresses(ctx)
	for _, a := range addrs {
		if a.Prefix.Addr() == addr {
			return true, nil
		}
	}
	return false, err
}

// Connections counts the established TCP connections from the process to a
// port of its own host.
func (p *Process) Connections(port uint16) (int, error) {
	dir := fmt.Sprintf("/proc/%d", p.PID())
	sockets, err := socketsOf(dir + "/fd")
	if err != nil {
		return 0, err
	}
	// The table of the process's own network namespace.
	table, err := os.ReadFile(dir + "/net/tcp")
	if err != nil {
		return 0, err
	}
	const established = "01"
	remote := fmt.Sprintf("0100007F:%04X", port)
	count := 0
	for lines := bufio.NewScanner(bytes.NewReader(table)); lines.Scan(); {
		// sl local remote state queues timer retransmits uid timeout inode …
		f := strings.Fields(lines.Text())
		if len(f) > 9 && f[2] == remote && f[3] == established && sockets[f[9]] {
			count++
		}
	}
	return count, nil
}

// socketsOf returns the inodes of the sockets among a process's descriptors.
func socketsOf(fdDir string) (map[string]bool, error) {
	entries, err := os.ReadDir(fdDir)
	if err != nil {
		return nil, err
	}
	sockets := make(map[string]bool)
	for _, e := range entries {
		target, err := os.Readlink(fdDir + "/" + e.Name())
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return sockets, nil
}
