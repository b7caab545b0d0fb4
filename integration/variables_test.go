package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// byVariables is a command of the binary as a container runs it: in a root directory that
// holds nothing else, with its configuration in the environment.
func (s *scene) byVariables(root string, args ...string) lab.Command {
	return lab.Command{
		Args: append([]string{"chroot", root, "/consul-vip"}, args...),
		Env: []string{
			fmt.Sprintf("CONSUL_VIP_VIPS=%s, %s", s.vips[0], s.vips[1]),
			"CONSUL_VIP_CONSUL_PREFIX=" + s.name, "CONSUL_VIP_CONSUL_SERVICE=" + s.name,
		},
	}
}

// emptyRoot returns a directory with the binary and nothing else.
func (s *scene) emptyRoot() string {
	s.t.Helper()
	root := s.t.TempDir()
	binary, err := os.ReadFile(s.ConsulVIP)
	s.NoError(err)
	s.NoError(os.WriteFile(filepath.Join(root, "consul-vip"), binary, 0o755))
	return root
}

// TestVariables starts an agent without any file. It serves an address of each family, hands
// them over to another such agent, and the commands find them by the same variables.
func TestVariables(t *testing.T) {
	n := int(scenes.Load())
	s := newSceneOf(t, everyAddress, ipv4.addr(n), ipv6.addr(n))
	client6, err := s.Client.NewClient(s.vips[1])
	s.NoError(err)
	t.Cleanup(func() { t.Log("client:", client6.Stop()) })
	served := func(h *lab.Host) condition {
		return condition{h.Name + " to answer both clients", func() error {
			return errors.Join(s.client.CheckAnsweredBy(h), client6.CheckAnsweredBy(h), s.allOn(h, s.vips...).seen())
		}}
	}
	root := s.emptyRoot()
	h1, h2 := s.Servers[0], s.Servers[1]
	first := s.startAs(h1, s.byVariables(root, "agent"))
	s.await(served(h1))
	s.settled()

	s.signal(first, syscall.SIGHUP)
	s.await(outputs(first, "configuration reloaded"))
	var out []byte
	s.retry("status", func() (err error) {
		out, err = h1.Run(t.Context(), s.byVariables(root, "status"))
		return err
	})
	for _, vip := range s.vips {
		s.Regexp(`(?m)^`+vip.String()+` +held +`+h1.Name+` `, string(out))
	}
	out, err = h1.Run(t.Context(), s.byVariables(root, "probe"))
	s.NoError(err)
	for _, vip := range s.vips {
		s.Regexp(`(?m)^`+vip.String()+` +ok +held +`+h1.Name+` `, string(out))
	}

	s.startAs(h2, s.byVariables(root, "agent"))
	s.await(s.memberOn(h2))
	s.stop(first)
	s.await(served(h2))
}

// TestMisspeltVariable has the agent refuse a variable that would have no effect.
func TestMisspeltVariable(t *testing.T) {
	s := newSceneOf(t, everyAddress, ipv4.addr(int(scenes.Load())), ipv6.addr(int(scenes.Load())))
	for _, subcommand := range []string{"agent", "validate"} {
		c := s.byVariables(s.emptyRoot(), subcommand)
		c.Env = append(c.Env, "CONSUL_VIP_VIP_PRIORTY=10")
		out, err := s.Servers[0].Run(t.Context(), c)
		var exit *exec.ExitError
		s.ErrorAs(err, &exit, "%s", out)
		s.Equal(3, exit.ExitCode())
		s.ErrorContains(err, "CONSUL_VIP_VIP_PRIORTY: ")
		s.ErrorContains(err, "Did you mean CONSUL_VIP_VIP_PRIORITY?")
	}
	s.await(s.unbound())
}
