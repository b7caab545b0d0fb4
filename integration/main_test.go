package integration

import (
	"context"
	"errors"
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

// run provides the programs, runs the tests and closes the labs that they share.
func run(m *testing.M) (code int, err error) {
	if programs, err = lab.Prepare(context.Background(), lab.Binary(), os.Stderr, lab.Nomad); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, closeShared()
}

// startLab starts a lab with this cluster. It must be closed.
func startLab(c lab.ClusterConfig) (*lab.Lab, error) {
	return lab.Start(context.Background(), lab.Config{Programs: programs, Cluster: c})
}

// sharedLabs are the labs that most tests share, one in each world.
var sharedLabs = map[lab.World]*shared{
	lab.ServersOnHosts: newShared(lab.ServersOnHosts),
	lab.Clients:        newShared(lab.Clients),
}

// shared is a lab that is started when the first test needs it.
type shared struct {
	start func() (*lab.Lab, error)
	lab   *lab.Lab // nil until it is started
}

func newShared(w lab.World) *shared {
	s := new(shared)
	s.start = sync.OnceValues(func() (l *lab.Lab, err error) {
		s.lab, err = startLab(w.Cluster())
		return s.lab, err
	})
	return s
}

// closeShared closes the shared labs that were started.
func closeShared() (err error) {
	for _, s := range sharedLabs {
		if s.lab != nil {
			err = errors.Join(err, s.lab.Close())
		}
	}
	return err
}

// sharedLab returns the lab that most tests share.
func sharedLab(t *testing.T) *lab.Lab {
	t.Helper()
	return sharedLabOf(t, lab.ServersOnHosts)
}

// sharedLabOf returns the lab that the tests in a world share.
func sharedLabOf(t *testing.T, w lab.World) *lab.Lab {
	t.Helper()
	l, err := sharedLabs[w].start()
	require.NoError(t, err)
	return l
}

// ownLab starts a lab for one test alone.
func ownLab(t *testing.T, c lab.ClusterConfig) *lab.Lab {
	t.Helper()
	l, err := startLab(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}
