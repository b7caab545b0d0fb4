package integration

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// probed is an address as "consul-vip probe -json" prints it.
type probed struct {
	Address  string   `json:"address"`
	Problems []string `json:"problems"`
	State    string   `json:"state"`
	Node     string   `json:"node"`
	Stations []struct {
		MAC    string  `json:"mac"`
		Node   string  `json:"node"`
		Millis float64 `json:"milliseconds"`
		Direct bool    `json:"direct"`
		Here   bool    `json:"here"`
	} `json:"stations"`
	Neighbor string `json:"neighbor"`
}

// macs are those of the stations, in order.
func (p probed) macs() (macs []string) {
	for _, s := range p.Stations {
		macs = append(macs, s.MAC)
	}
	return macs
}

// probe runs "consul-vip probe" for the scene's address on a host. It requires the exit
// code, and the first result that is printed.
func (s *scene) probe(h *lab.Host, code int, args ...string) (p probed) {
	s.t.Helper()
	out, err := h.Run(s.t.Context(), lab.Command{Args: append([]string{s.ConsulVIP, "probe", "-json"}, args...)})
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		s.Equal(code, exit.ExitCode(), "exit code of probe: %s %s", out, err)
	default:
		s.NoError(err)
		s.Zero(code, "exit code of probe: %s", out)
	}
	var rows []probed
	s.NoError(json.Unmarshal(out, &rows))
	s.Len(rows, 1)
	return rows[0]
}

// TestProbe asks for an address that nobody has, then one host, then two.
func TestProbe(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			s := newSceneOfFamily(t, sharedLab(t), f)
			s.excused = func(lab.Double) bool { return true }
			h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
			vip, whole := s.vip.String(), netip.PrefixFrom(s.vip, s.vip.BitLen())

			s.Empty(s.probe(h3, 1, vip).Stations)
			s.NoError(h1.AddAddress("eth0", whole))
			p := s.probe(h3, 0, vip)
			s.Equal([]string{h1.MAC.String()}, p.macs())
			s.True(p.Stations[0].Direct)
			s.Greater(p.Stations[0].Millis, 0.0)
			s.True(s.probe(h1, 0, vip).Stations[0].Here)

			s.NoError(h2.AddAddress("eth0", whole))
			s.ElementsMatch([]string{h1.MAC.String(), h2.MAC.String()}, s.probe(h3, 5, vip).macs())
			s.ElementsMatch([]string{h1.MAC.String(), h2.MAC.String()}, s.probe(h1, 5, vip).macs())
			s.NoError(h1.RemoveAddress("eth0", whole))
			s.NoError(h2.RemoveAddress("eth0", whole))
		})
	}
}

// TestProbeAgainstConsul finds everything that may be wrong with an address.
func TestProbeAgainstConsul(t *testing.T) {
	t.Parallel()
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			s := newSceneOfFamily(t, sharedLab(t), f)
			s.excused = func(lab.Double) bool { return true }
			whole := netip.PrefixFrom(s.vip, s.vip.BitLen())
			prefix := "-prefix=" + s.name
			// A kernel that gets an IPv6 address tells everybody.
			c := config{vip: `on_conflict = "log"`}
			owner := s.startAll(c)[0].Host
			others := s.Servers[1:]
			file := s.configure(others[1], s.hcl(c))

			p := s.probe(others[1], 0, prefix)
			s.Empty(p.Problems)
			s.Equal("held", p.State)
			s.Equal(owner.Name, p.Node)
			s.Equal(owner.Name, p.Stations[0].Node)
			s.Empty(s.probe(others[1], 0, "-config="+file).Problems)
			s.Empty(s.probe(owner, 0, "-config="+file).Problems, "on the owner itself")

			s.NoError(others[0].AddAddress("eth0", whole))
			s.Contains(s.probe(others[1], 5, prefix).Problems, "two owners")
			s.Contains(s.probe(others[0], 5, "-config="+file).Problems, "bound here without the lock")
			s.NoError(others[0].RemoveAddress("eth0", whole))

			s.neighbor(others[1], "replace", "lladdr", others[0].MAC.String(), "nud", "permanent")
			s.Equal([]string{"wrong neighbor entry"}, s.probe(others[1], 1, prefix).Problems)
			s.neighbor(others[1], "del")
			s.Empty(s.probe(others[1], 0, prefix).Problems)

			s.succeed(owner, "release", "-hold", s.vip.String())
			s.await(s.unbound())
			s.Equal([]string{"no owner"}, s.probe(others[1], 1, prefix).Problems)
			s.NoError(others[0].AddAddress("eth0", whole))
			s.Equal([]string{"answered without a lock"}, s.probe(others[1], 1, prefix).Problems)
			s.NoError(others[0].RemoveAddress("eth0", whole))
		})
	}
}

// neighbor changes the entry of the scene's address in the neighbor table of a host.
func (s *scene) neighbor(h *lab.Host, change string, args ...string) {
	s.t.Helper()
	args = append([]string{"ip", "neighbor", change, s.vip.String(), "dev", "eth0"}, args...)
	_, err := h.Run(s.t.Context(), lab.Command{Args: args})
	s.NoError(err)
}

// TestProbeNeedsOneCapability probes as an ordinary user who may send frames.
func TestProbeNeedsOneCapability(t *testing.T) {
	s := newScene(t)
	h1 := s.Servers[0]
	const one = "-all,+net_raw"
	given := []string{
		"--reuid=" + nobody, "--regid=" + nobody, "--clear-groups", "--no-new-privs",
		"--bounding-set=" + one, "--inh-caps=" + one, "--ambient-caps=" + one,
	}
	if _, err := h1.Run(t.Context(), lab.Command{Args: setpriv(given, "true")}); err != nil {
		t.Skip("this namespace knows no such user: ", err)
	}
	s.startAll(config{})
	dir, err := os.MkdirTemp("", "consul-vip-test-")
	s.NoError(err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.NoError(os.Chmod(dir, 0o755))
	binary := filepath.Join(dir, "consul-vip")
	program, err := os.ReadFile(s.ConsulVIP)
	s.NoError(err)
	s.NoError(os.WriteFile(binary, program, 0o755))
	out, err := s.Servers[1].Run(t.Context(), lab.Command{Args: setpriv(given, binary, "probe", "-prefix="+s.name)})
	s.NoError(err)
	s.Regexp(regexp.QuoteMeta(s.vip.String())+` +ok +held +`+h1.Name, string(out))
}
