package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// nobody is an ordinary user.
const nobody = "65534"

// TestTwoCapabilities runs whole lives of an instance that has been given no
// more than the documentation says it needs.
func TestTwoCapabilities(t *testing.T) {
	const two = "-all,+net_admin,+net_raw"
	for name, given := range map[string][]string{
		"root with a bounding set": {"--bounding-set=" + two},
		"ordinary user": {
			"--reuid=" + nobody, "--regid=" + nobody, "--clear-groups", "--no-new-privs",
			"--bounding-set=" + two, "--inh-caps=" + two, "--ambient-caps=" + two,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, sharedWorld(t))
			h1 := s.Servers[0]
			if _, err := h1.Run(t.Context(), lab.Command{Args: setpriv(given, "true")}); err != nil {
				t.Skip("this namespace knows no such user: ", err)
			}
			p := s.startBy(h1, given)
			s.eventually(soon, func() error { return s.ownedBy(h1) })
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
			require.NoError(t, err)
			require.Contains(t, string(status), "CapEff:\t0000000000003000\n", "bits 12 and 13 alone")

			require.NoError(t, p.Signal(syscall.SIGTERM))
			s.exits(p, 0, 4*time.Second)
			s.unboundOn(h1)
			_, r, err := s.record(s.vip)
			require.NoError(t, err)
			require.Equal(t, "released", r.State)
		})
	}
}

func TestMissingCapability(t *testing.T) {
	for missing, given := range map[string]string{
		"CAP_NET_ADMIN": "-all,+net_raw",
		"CAP_NET_RAW":   "-all,+net_admin",
	} {
		t.Run(missing, func(t *testing.T) {
			s := newScene(t, sharedWorld(t))
			h1 := s.Servers[0]
			p := s.startBy(h1, []string{"--bounding-set=" + given})
			s.exits(p, 1, soon)
			ends := logged(p, "consul-vip ends")
			require.Len(t, ends, 1)
			require.Contains(t, ends[0].Get("reason"), "it lacks "+missing)
			s.unboundOn(h1)
			pair, _, err := s.asked.API.KV().Get(s.key(s.vip), nil)
			require.NoError(t, err)
			require.Nil(t, pair, "it must not contend")
		})
	}
}

// startBy starts consul-vip on a host through setpriv with these options, from
// files that everybody may read.
func (s *scene) startBy(h *lab.Host, options []string) *lab.Process {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "consul-vip-test-")
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(s.t, os.Chmod(dir, 0o755))
	binary, file := filepath.Join(dir, "consul-vip"), filepath.Join(dir, "vip.hcl")
	program, err := os.ReadFile(s.binary)
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(binary, program, 0o755))
	require.NoError(s.t, os.WriteFile(file, []byte(s.hcl(config{})), 0o644))
	p, err := h.Start(lab.Command{Args: setpriv(options, binary, "agent", "-config="+file)})
	require.NoError(s.t, err)
	s.procs = append(s.procs, p)
	return p
}

// setpriv is the command that runs args with these options of setpriv(1).
func setpriv(options []string, args ...string) []string {
	return append(append([]string{"setpriv"}, options...), args...)
}
