package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// cli runs the binary outside of the lab and returns its exit code and output.
func (c *checks) cli(args ...string) (code int, output string) {
	c.t.Helper()
	out, err := exec.Command(programs.ConsulVIP, args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		c.NoError(err)
		return 0, string(out)
	}
	return exit.ExitCode(), string(out)
}

// hclFile writes a configuration and returns its path.
func (c *checks) hclFile(text string) string {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), "vip.hcl")
	c.NoError(os.WriteFile(path, []byte(text), 0o644))
	return path
}

func TestConfigurationErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		at   string   // line and column
		want []string // besides
	}{
		"unknown key":      {"vip \"10.77.0.100\" {\n  prioritty = 1\n}\n", ":2:3:", []string{"prioritty = 1", `Did you mean "priority"?`}},
		"address twice":    {"vip \"10.77.0.100\" {}\nvip \"10.77.0.100\" {}\n", ":2:5:", nil},
		"dead_man too low": {"vip \"10.77.0.100\" {\n  dead_man = \"1s\"\n}\n", ":2:14:", []string{"2s"}},
		"TTL out of range": {"consul {\n  session_ttl = \"2d\"\n}\nvip \"10.77.0.100\" {}\n", ":2:17:", []string{`"2d"`}},
		"link-local":       {"vip \"fe80::1\" {}\n", ":1:5:", []string{"link-local"}},
		"no HCL":           {"vip \"10.77.0.100\" {\n", ":1:", nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChecks(t)
			file := c.hclFile(tt.text)
			for _, args := range [][]string{{"validate", file}, {"agent", "-config=" + file}, {"agent", "--config", file}} {
				code, output := c.cli(args...)
				c.Equal(3, code, output)
				c.Contains(output, file+tt.at)
				for _, want := range tt.want {
					c.Contains(output, want)
				}
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	c := newChecks(t)
	for _, args := range [][]string{
		{}, {"nonsense"}, {"agent"}, {"agent", "-nonsense"}, {"agent", "-config=a", "b"},
		{"validate"}, {"status", "-nonsense"}, {"status", "nonsense"},
		{"move"}, {"move", "nonsense"}, {"unpin"}, {"release"}, {"drain", "nonsense"}, {"undrain", "nonsense"},
	} {
		code, output := c.cli(args...)
		c.Equal(2, code, "%q: %s", args, output)
		c.NotEmpty(output)
	}
}

func TestValidateAndVersion(t *testing.T) {
	c := newChecks(t)
	code, output := c.cli("validate", c.hclFile(`vip "10.77.0.100" {}`))
	c.Zero(code, output)
	code, output = c.cli("version")
	c.Zero(code)
	c.Contains(output, "consul-vip")
}

// TestNoInterface configures an address that belongs to none of the host's networks.
func TestNoInterface(t *testing.T) {
	c := newChecks(t)
	w := sharedLab(t)
	h := w.Servers[0]
	out, err := h.Run(t.Context(), lab.Command{Args: []string{w.ConsulVIP, "agent", "-config=" + c.hclFile(`vip "192.0.2.1" {}`)}})
	var exit *exec.ExitError
	c.ErrorAs(err, &exit, "%s", out)
	c.Equal(1, exit.ExitCode())
	c.ErrorContains(err, "192.0.2.1")
}

// TestStatusWithoutConsul asks where there is no Consul.
func TestStatusWithoutConsul(t *testing.T) {
	c := newChecks(t)
	code, output := c.cli("status", "-http-addr=127.0.0.1:1")
	c.Equal(1, code)
	c.Contains(output, "127.0.0.1:1")
}
