package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestEmptyRoot runs the binary as the image of the Dockerfile holds it: with no
// other file than its configuration.
func TestEmptyRoot(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	root := t.TempDir()
	binary, err := os.ReadFile(s.binary)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "consul-vip"), binary, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "consul-vip.hcl"), []byte(s.hcl(config{})), 0o644))
	h := s.Servers[0]
	p, err := h.Start(lab.Command{Args: []string{"chroot", root, "/consul-vip", "agent", "-config=/consul-vip.hcl"}})
	require.NoError(t, err)
	s.procs = append(s.procs, p)
	s.eventually(2*soon, func() error { return s.ownedBy(h) })
}
