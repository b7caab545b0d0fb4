package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// programs are the paths of what is run on the hosts.
type programs struct {
	consulVIP  string
	consul     string
	keepalived string
	arping     string
}

// findPrograms looks for what has to be installed. The error says how to.
func findPrograms(consul, consulVIP string) (programs, error) {
	p := programs{consulVIP: consulVIP, consul: consul}
	var missing []string
	for _, need := range []struct {
		path          *string
		name, debians string
	}{
		{&p.keepalived, "keepalived", "keepalived"},
		{&p.arping, "arping", "iputils-arping"},
	} {
		if *need.path = find(need.name); *need.path == "" {
			missing = append(missing, need.debians)
		}
	}
	if missing != nil {
		return p, fmt.Errorf("what is compared with must be installed, on Debian by: sudo apt-get install --no-install-recommends %s", strings.Join(missing, " "))
	}
	return p, nil
}

// find returns the path of a program, also where it's for administrators only,
// or "".
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

// machine is what the figures were measured with.
type machine struct {
	consulVIP, consul, keepalived, goVersion, kernel string

	cores    int
	memoryGB int
	date     string
}

// describe asks the programs and the kernel for their versions.
func describe(ctx context.Context, p programs) (machine, error) {
	m := machine{goVersion: runtime.Version(), cores: runtime.NumCPU(), date: time.Now().UTC().Format(time.DateOnly)}
	for _, ask := range []struct {
		version *string
		args    []string
	}{
		{&m.consulVIP, []string{p.consulVIP, "version"}},
		{&m.consul, []string{p.consul, "version"}},
		{&m.keepalived, []string{p.keepalived, "--version"}},
	} {
		out, err := exec.CommandContext(ctx, ask.args[0], ask.args[1:]...).CombinedOutput()
		if err != nil {
			return m, fmt.Errorf("%q: %w", ask.args, err)
		}
		*ask.version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, err
	}
	// What follows the first dash is the distribution's own.
	m.kernel, _, _ = strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	memory, err := memoryGB()
	m.memoryGB = memory
	return m, err
}

// memoryGB returns the size of the main memory, rounded to whole gigabytes.
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
