package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// cli runs the binary outside of the lab and returns its exit code and output.
func cli(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	out, err := exec.Command(path, args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
		return 0, string(out)
	}
	return exit.ExitCode(), string(out)
}

// hclFile writes a configuration and returns its path.
func hclFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vip.hcl")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
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
		"IPv6, for now":    {"vip \"fd00::1\" {}\n", ":1:5:", []string{"IPv6"}},
		"no HCL":           {"vip \"10.77.0.100\" {\n", ":1:", nil},
	} {
		t.Run(name, func(t *testing.T) {
			file := hclFile(t, tt.text)
			for _, args := range [][]string{{"validate", file}, {"agent", "-config=" + file}, {"agent", "--config", file}} {
				code, output := cli(t, args...)
				require.Equal(t, 3, code, output)
				require.Contains(t, output, file+tt.at)
				for _, want := range tt.want {
					require.Contains(t, output, want)
				}
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{}, {"nonsense"}, {"agent"}, {"agent", "-nonsense"}, {"agent", "-config=a", "b"},
		{"validate"}, {"status", "-nonsense"}, {"status", "nonsense"},
		{"move"}, {"move", "nonsense"}, {"unpin"}, {"release"}, {"drain", "nonsense"}, {"undrain", "nonsense"},
	} {
		code, output := cli(t, args...)
		require.Equal(t, 2, code, "%q: %s", args, output)
		require.NotEmpty(t, output)
	}
}

func TestValidateAndVersion(t *testing.T) {
	code, output := cli(t, "validate", hclFile(t, `vip "10.77.0.100" {}`))
	require.Zero(t, code, output)
	code, output = cli(t, "version")
	require.Zero(t, code)
	require.Contains(t, output, "consul-vip")
}

// TestNoInterface configures an address that belongs to none of the host's networks.
func TestNoInterface(t *testing.T) {
	w := sharedWorld(t)
	h := w.Servers[0]
	out, err := h.Run(t.Context(), lab.Command{Args: []string{w.binary, "agent", "-config=" + hclFile(t, `vip "192.0.2.1" {}`)}})
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, 1, exit.ExitCode())
	require.ErrorContains(t, err, "192.0.2.1")
}

// TestStatusWithoutConsul asks where there is no Consul.
func TestStatusWithoutConsul(t *testing.T) {
	code, output := cli(t, "status", "-http-addr=127.0.0.1:1")
	require.Equal(t, 1, code)
	require.Contains(t, output, "127.0.0.1:1")
}
