package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// stage is the lab that all repetitions run on.
type stage struct {
	lab.Hosts
	lab      *lab.Lab
	cluster  *lab.Cluster
	programs programs
	began    time.Time

	keepsLogs bool
}

// newStage builds the lab and starts Consul. Where dir is not "", all logs are
// kept in it.
func newStage(ctx context.Context, p programs, dir string) (s *stage, err error) {
	s = &stage{programs: p, began: time.Now(), keepsLogs: dir != ""}
	if s.lab, err = lab.New(dir); err != nil {
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
	s.logf("three hosts, a client, an observer; starting Consul on each host")
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s.cluster, err = lab.StartCluster(ctx, p.consul, lab.ClusterConfig{RaftMultiplier: 1}, s.Servers)
	return s, err
}

// close ends everything.
func (s *stage) close() error { return s.lab.Close() }

// logf tells the progress. It may be called from several goroutines: a line is
// one write.
func (s *stage) logf(format string, args ...any) {
	line := fmt.Sprintf("%6.1f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
	_, _ = os.Stderr.WriteString(line)
}
