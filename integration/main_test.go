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

// startLab starts a lab with this cluster. It must be closed.
func startLab(c lab.ClusterConfig) (*lab.Lab, error) {
	return lab.Start(context.Background(), lab.Config{Programs: programs, Cluster: c})
}

// shared starts the lab that most tests share, when the first test needs it.
var shared = sync.OnceValues(func() (*lab.Lab, error) {
	l, err := startLab(lab.ClusterConfig{})
	if err == nil {
		closeShared = l.Close
	}
	return l, err
})

// closeShared closes the shared lab, if it was started.
var closeShared = func() error { return nil }

// sharedLab returns the lab that most tests share.
func sharedLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := shared()
	require.NoError(t, err)
	return l
}
