package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// shortRun is for how long the test begins new faults; what it began takes up to
// half a minute more.
const shortRun = 40 * time.Second

// wanted says that the test must run, and not be skipped for what is missing.
var wanted = os.Getenv("CONSUL_VIP_INTEGRATION") != ""

func TestMain(m *testing.M) {
	flag.Parse()
	if wanted {
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// prepare sees to Consul and to the permission to build a lab, in this order:
// once inside a namespace without a network nothing can be built any more.
func prepare() error {
	consul, err := lab.Consul.Provide(context.Background(), os.Stderr)
	if err != nil {
		return err
	}
	if err := os.Setenv("CONSUL_BIN", consul); err != nil {
		return err
	}
	return lab.Enter()
}

// TestChaos is a short run. Its faults are always the same.
func TestChaos(t *testing.T) {
	if !wanted {
		t.Skip("takes a minute and needs Consul; CONSUL_VIP_INTEGRATION=1 or \"make test\" sees to it")
	}
	o := options{seed: 1, faults: 20, limit: shortRun, dir: t.TempDir(), out: t.Output()}
	var err error
	o.consul, err = lab.Consul.Find()
	require.NoError(t, err)
	if o.binary = os.Getenv("CONSUL_VIP_BIN"); o.binary == "" {
		o.binary = filepath.Join(t.TempDir(), "consul-vip")
		require.NoError(t, lab.BuildBinary(t.Context(), o.binary))
	}
	o.binary, err = filepath.Abs(o.binary)
	require.NoError(t, err)
	found, err := chaos(t.Context(), o)
	require.NoError(t, err)
	for i := range found {
		text, err := os.ReadFile(filepath.Join(o.dir, fmt.Sprintf("chaos-%d-%d.log", o.seed, i+1)))
		require.NoError(t, err)
		t.Errorf("%s", text)
	}
}
