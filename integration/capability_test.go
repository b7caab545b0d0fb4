package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

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
			s := newScene(t)
			h1 := s.Servers[0]
			if _, err := h1.Run(t.Context(), lab.Command{Args: setpriv(given, "true")}); err != nil {
				t.Skip("this namespace knows no such user: ", err)
			}
			p := s.startBy(h1, given)
			s.await(s.ownedBy(h1))
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
			s.NoError(err)
			s.Contains(string(status), "CapEff:\t0000000000003000\n", "bits 12 and 13 alone")

			s.stop(p)
			s.holds(s.notOn(h1))
			_, r := s.lockOf(s.vip)
			s.Equal("released", r.State)
		})
	}
}

func TestMissingCapability(t *testing.T) {
	for missing, given := range map[string]string{
		"CAP_NET_ADMIN": "-all,+net_raw",
		"CAP_NET_RAW":   "-all,+net_admin",
	} {
		t.Run(missing, func(t *testing.T) {
			s := newScene(t)
			h1 := s.Servers[0]
			p := s.startBy(h1, []string{"--bounding-set=" + given})
			s.exits(p, 1, soon)
			ends := logged(p, "consul-vip stopped")
			s.Len(ends, 1)
			s.Contains(ends[0].Get("reason"), "it lacks "+missing)
			s.holds(s.notOn(h1))
			s.Nil(s.get(lockKey(s.vip)), "it must not contend")
		})
	}
}

// startBy starts consul-vip on a host through setpriv with these options, from
// files that everybody may read.
func (s *scene) startBy(h *lab.Host, options []string) *lab.Process {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "consul-vip-test-")
	s.NoError(err)
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.NoError(os.Chmod(dir, 0o755))
	binary, file := filepath.Join(dir, "consul-vip"), filepath.Join(dir, "vip.hcl")
	program, err := os.ReadFile(s.ConsulVIP)
	s.NoError(err)
	s.NoError(os.WriteFile(binary, program, 0o755))
	s.NoError(os.WriteFile(file, []byte(s.hcl(config{})), 0o644))
	return s.startAs(h, lab.Command{Args: setpriv(options, binary, "agent", "-config="+file)})
}

// setpriv is the command that runs args with these options of setpriv(1).
func setpriv(options []string, args ...string) []string {
	return append(append([]string{"setpriv"}, options...), args...)
}
