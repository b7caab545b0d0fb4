package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// wanted says that the tests must run, and not be skipped for what is missing.
var wanted = os.Getenv("CONSUL_VIP_INTEGRATION") != ""

func TestMain(m *testing.M) {
	flag.Parse()
	if err := prepare(); err != nil {
		if wanted {
			fmt.Fprintln(os.Stderr, "integration:", err)
			os.Exit(1)
		}
		fmt.Fprintf(os.Stderr, "integration: skipped: %v; CONSUL_VIP_INTEGRATION=1 or \"make test\" sees to it\n", err)
		os.Exit(0)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

// scratch is a directory for what the tests share.
var scratch string

// run runs the tests and removes what they shared.
func run(m *testing.M) (code int, err error) {
	if scratch, err = os.MkdirTemp("", "consul-vip-test-"); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, errors.Join(closeShared(), os.RemoveAll(scratch))
}

// prepare sees to Consul and Nomad and to the permission to build a lab, in this
// order: nothing can be built any more once inside a namespace without a network.
func prepare() error {
	if !wanted {
		if testing.Short() {
			return errors.New("takes minutes, and -short was given")
		}
		if _, err := lab.Consul.Find(); err != nil {
			return err
		}
		return lab.Permitted()
	}
	for _, p := range []lab.Program{lab.Consul, lab.Nomad} {
		path, err := p.Provide(context.Background(), os.Stderr)
		if err != nil {
			return err
		}
		if err := os.Setenv(p.Env(), path); err != nil {
			return err
		}
	}
	return lab.Enter()
}

// world is a lab with a Consul cluster and the binary to test.
type world struct {
	lab.Hosts
	cluster *lab.Cluster
	consul  string // path of the Consul binary
	binary  string // path of the consul-vip binary
	close   func() error
}

// newWorld builds a lab with a cluster.
func newWorld(c lab.ClusterConfig) (w *world, err error) {
	w = new(world)
	if w.binary, err = binary(); err != nil {
		return nil, err
	}
	if w.consul, err = lab.Consul.Find(); err != nil {
		return nil, err
	}
	l, err := lab.New("")
	if err != nil {
		return nil, err
	}
	w.close = l.Close
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if w.Hosts, err = l.AddHosts(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w.cluster, err = lab.StartCluster(ctx, w.consul, c, w.Servers)
	return w, err
}

// What the tests share is built by the first test that needs it.
var (
	binary = sync.OnceValues(buildBinary)
	shared = sync.OnceValues(func() (*world, error) {
		w, err := newWorld(lab.ClusterConfig{RaftMultiplier: 1})
		if err == nil {
			closeShared = w.close
		}
		return w, err
	})
	closeShared = func() error { return nil }
)

// buildBinary returns the binary to test: the one that CONSUL_VIP_BIN names, or
// one built from the working tree.
func buildBinary() (string, error) {
	if path := os.Getenv("CONSUL_VIP_BIN"); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(scratch, "consul-vip")
	return path, lab.BuildBinary(context.Background(), path)
}

// sharedWorld returns the lab that most tests share.
func sharedWorld(t *testing.T) *world {
	t.Helper()
	w, err := shared()
	require.NoError(t, err)
	return w
}
