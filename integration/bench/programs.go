package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// programs are the paths of the programs that must be installed.
type programs struct {
	keepalived string
	arping     string
	nginx      string
	wrk        string
}

// findPrograms looks for the programs. The error says how to install those that are
// missing.
func findPrograms() (programs, error) {
	var p programs
	var missing []string
	for _, need := range []struct {
		path       *string
		name, debs string
	}{
		{&p.keepalived, "keepalived", "keepalived"},
		{&p.arping, "arping", "iputils-arping"},
		{&p.nginx, "nginx", "nginx-light"},
		{&p.wrk, "wrk", "wrk"},
	} {
		if *need.path = find(need.name); *need.path == "" {
			missing = append(missing, need.debs)
		}
	}
	if missing != nil {
		return p, fmt.Errorf("programs to compare with are missing; on Debian: sudo apt-get install --no-install-recommends %s", strings.Join(missing, " "))
	}
	return p, nil
}

// find returns the path of a program, or "". It also looks into the directories for
// administrators.
func find(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// machine describes the machine and the programs that were measured.
type machine struct {
	consulVIP, consul, keepalived, nginx, wrk, goVersion, kernel string

	cores    int
	memoryGB int
	date     string
}

// describe asks the programs and the kernel for their versions.
func describe(ctx context.Context, provided lab.Programs, p programs) (machine, error) {
	m := machine{goVersion: runtime.Version(), cores: runtime.NumCPU(), date: time.Now().UTC().Format(time.DateOnly)}
	for _, program := range []struct {
		version *string
		args    []string
	}{
		{&m.consulVIP, []string{provided.ConsulVIP, "version"}},
		{&m.consul, []string{provided.Consul, "version"}},
		{&m.keepalived, []string{p.keepalived, "--version"}},
		{&m.nginx, []string{p.nginx, "-v"}},
		{&m.wrk, []string{p.wrk, "-v"}},
	} {
		out, err := exec.CommandContext(ctx, program.args[0], program.args[1:]...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) { // wrk fails when it has printed its version
			return m, fmt.Errorf("%q: %w", program.args, err)
		}
		*program.version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, err
	}
	// The distribution's own version follows the first dash.
	m.kernel, _, _ = strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	memory, err := memoryGB()
	m.memoryGB = memory
	return m, err
}

// memoryGB returns the size of the main memory, rounded to full gigabytes.
func memoryGB() (int, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	var kB int
	if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kB); err != nil {
		return 0, fmt.Errorf("/proc/meminfo: %w", err)
	}
	return (kB + 1<<19) >> 20, nil
}
