package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// benchLab is the lab in which all repetitions run.
type benchLab struct {
	*lab.Lab
	programs  programs
	began     time.Time
	keepsLogs bool
}

// newBenchLab starts the lab. If dir is not empty, all logs stay in it.
func newBenchLab(ctx context.Context, c lab.Config, p programs) (*benchLab, error) {
	b := &benchLab{programs: p, began: time.Now(), keepsLogs: c.Dir != ""}
	b.logf("three hosts, a client, an observer; starting Consul")
	var err error
	b.Lab, err = lab.Start(ctx, c)
	return b, err
}

// logf reports the progress. Several goroutines may call it: each line is one write.
func (b *benchLab) logf(format string, args ...any) {
	line := fmt.Sprintf("%6.1f s  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
	_, _ = os.Stderr.WriteString(line)
}
