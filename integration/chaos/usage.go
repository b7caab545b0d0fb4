package main

import (
	"fmt"
	"os"
	"strings"
)

// usage is how much of the machine a process uses.
type usage struct {
	descriptors, threads int
	rss                  int // resident memory in bytes
}

// growth is how much more a process may use than when it had settled for the first
// time.
var growth = usage{descriptors: 8, threads: 12, rss: 64 << 20}

// exceeds returns which figures have grown too much since then.
func (u usage) exceeds(then usage) []string {
	var found []string
	check := func(what string, now, then, more int) {
		if now > then+more {
			found = append(found, fmt.Sprintf("%s: %d, was %d", what, now, then))
		}
	}
	check("descriptors", u.descriptors, then.descriptors, growth.descriptors)
	check("threads", u.threads, then.threads, growth.threads)
	check("resident bytes", u.rss, then.rss, growth.rss)
	return found
}

// usageOf reads how much a process uses.
func usageOf(pid int) (usage, error) {
	var u usage
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, err
	}
	u.descriptors = len(descriptors)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			u.rss = kib << 10
		}
		_, _ = fmt.Sscanf(line, "Threads: %d", &u.threads) // most lines have other names
	}
	return u, nil
}
