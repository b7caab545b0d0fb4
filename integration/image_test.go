package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestEmptyRoot runs the binary as the image of the Dockerfile holds it: with no
// other file than its configuration.
func TestEmptyRoot(t *testing.T) {
	s := newScene(t)
	root := s.emptyRoot()
	s.NoError(os.WriteFile(filepath.Join(root, "consul-vip.hcl"), []byte(s.hcl(config{})), 0o644))
	h := s.Servers[0]
	s.startAs(h, lab.Command{Args: []string{"chroot", root, "/consul-vip", "agent", "-config=/consul-vip.hcl"}})
	s.await(s.ownedBy(h))
}
