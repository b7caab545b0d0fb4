package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// wanted says that the tests must run, and may not be skipped because a program is
// missing.
var wanted = lab.Wanted() == nil

// programs are the binaries that the tests run.
var programs lab.Programs

func TestMain(m *testing.M) {
	flag.Parse()
	if err := lab.Wanted(); err != nil {
		fmt.Fprintln(os.Stderr, "integration: all tests are skipped:", err)
		os.Exit(0)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

// run provides the programs, runs the tests and closes the lab that they share.
func run(m *testing.M) (code int, err error) {
	if programs, err = lab.Prepare(context.Background(), lab.Binary(), os.Stderr, lab.Nomad); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, closeShared()
}

// world is a lab, with the names by which the tests use its parts.
type world struct {
	*lab.Lab
	cluster *lab.Cluster
	consul  string // path of the Consul binary
	binary  string // path of the consul-vip binary
}

// newWorld starts a lab. It must be closed.
func newWorld(c lab.ClusterConfig) (*world, error) {
	l, err := lab.Start(context.Background(), lab.Config{Programs: programs, Cluster: c})
	if err != nil {
		return nil, err
	}
	return &world{Lab: l, cluster: l.Cluster, consul: l.Consul, binary: l.ConsulVIP}, nil
}

func (w *world) close() error { return w.Close() }

// binary returns the path of the consul-vip binary.
func binary() (string, error) { return programs.ConsulVIP, nil }

// shared starts the lab that most tests share, when the first test needs it.
var shared = sync.OnceValues(func() (*world, error) {
	w, err := newWorld(lab.ClusterConfig{})
	if err == nil {
		closeShared = w.close
	}
	return w, err
})

// closeShared closes the shared lab, if it was started.
var closeShared = func() error { return nil }

// sharedWorld returns the lab that most tests share.
func sharedWorld(t *testing.T) *world {
	t.Helper()
	w, err := shared()
	require.NoError(t, err)
	return w
}
