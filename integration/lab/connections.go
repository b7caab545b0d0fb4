package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
)

// Connections counts the established TCP connections from the process to a
// port of its own host.
func (p *Process) Connections(port uint16) (int, error) {
	dir := fmt.Sprintf("/proc/%d", p.PID())
	sockets, err := socketsOf(dir + "/fd")
	if err != nil {
		return 0, err
	}
	// The kernel shows the table of the process's network namespace here.
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

// socketsOf returns the inodes of the sockets among the descriptors of a process.
func socketsOf(fdDir string) (map[string]bool, error) {
	entries, err := os.ReadDir(fdDir)
	if err != nil {
		return nil, err
	}
	sockets := make(map[string]bool)
	for _, e := range entries {
		target, err := os.Readlink(fdDir + "/" + e.Name())
		if err != nil {
			continue // it was closed in the meantime
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return sockets, nil
}
