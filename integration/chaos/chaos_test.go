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

// shortRun is how long the test begins new faults. The last ones take up to half a
// minute more.
const shortRun = 40 * time.Second

// programs are those that TestChaos runs.
var programs lab.Programs

func TestMain(m *testing.M) {
	flag.Parse()
	if lab.Wanted() == nil {
		var err error
		if programs, err = lab.Prepare(context.Background(), lab.Binary(), os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// TestChaos is a short run in each world, at the same time. Its faults are always the same.
func TestChaos(t *testing.T) {
	if err := lab.Wanted(); err != nil {
		t.Skip(err)
	}
	for _, world := range lab.Worlds {
		t.Run(string(world), func(t *testing.T) { testChaos(t, world) })
	}
}

func testChaos(t *testing.T, world lab.World) {
	t.Parallel()
	o := options{programs: programs, world: world, seed: 1, faults: 20, limit: shortRun, dir: t.TempDir(), out: t.Output()}
	found, err := chaos(t.Context(), o)
	require.NoError(t, err)
	for i := range found {
		text, err := os.ReadFile(filepath.Join(o.dir, fmt.Sprintf("chaos-%d-%d.log", o.seed, i+1)))
		require.NoError(t, err)
		t.Errorf("%s", text)
	}
}
