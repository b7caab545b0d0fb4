// Package examples_test checks the examples.
package examples_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
)

func load(t *testing.T, path string) *config.Config {
	t.Helper()
	cfg, err := config.Load(nil, path)
	require.NoError(t, err)
	return cfg
}

func TestConfigurations(t *testing.T) {
	files, err := filepath.Glob("*.hcl")
	require.NoError(t, err)
	clouds, err := filepath.Glob("cloud/*.hcl")
	require.NoError(t, err)
	require.NotEmpty(t, clouds)
	for _, file := range append(files, clouds...) {
		if strings.HasSuffix(file, "-policy.hcl") {
			continue
		}
		t.Run(file, func(t *testing.T) { load(t, file) })
	}
}

// full.hcl has every key with its default, so it equals minimal.hcl but for the hook and for
// the check, which nothing requires.
func TestFullIsTheDefaults(t *testing.T) {
	full := load(t, "full.hcl")
	require.Equal(t, []config.Check{{
		Name: "traefik", HTTP: "http://127.0.0.1:8080/ping", Interval: config.DefaultCheckInterval, Timeout: config.DefaultCheckTimeout,
		Rise: config.DefaultRise, Fall: config.DefaultFall,
	}}, full.Checks)
	require.Equal(t, []config.Hook{{
		Name: "notify", Command: []string{"/etc/consul-vip/notify.sh"}, Timeout: config.DefaultHookTimeout,
		On: []config.HookEvent{config.HookAcquired, config.HookReleased, config.HookLost, config.HookConflict, config.HookUnfit, config.HookFit},
	}}, full.Hooks)
	full.Checks, full.Hooks = nil, nil
	require.Equal(t, load(t, "minimal.hcl"), full)
}

func TestTraefikFollowsTheEnvironment(t *testing.T) {
	t.Setenv("VIP_INTERFACE", "bond0")
	t.Setenv("VIP_B_PRIORITY", "10")
	cfg := load(t, "traefik.hcl")
	require.Len(t, cfg.VIPs, 2)
	require.Equal(t, "bond0", cfg.VIPs[0].Interface)
	require.Equal(t, 100, cfg.VIPs[0].Priority)
	require.Equal(t, 10, cfg.VIPs[1].Priority)
	require.Equal(t, config.LossContend, cfg.VIPs[1].OnLoss)
	require.Len(t, cfg.Checks, 1)
	for _, vip := range cfg.VIPs {
		require.Equal(t, []string{cfg.Checks[0].Name}, vip.Require)
	}
}

// policy is the part of Consul's ACL language that the policies use.
type policy struct {
	Keys     []rule `hcl:"key_prefix,block"`
	Sessions []rule `hcl:"session_prefix,block"`
	Services []rule `hcl:"service,block"`
	Agents   []rule `hcl:"agent_prefix,block"`
}

type rule struct {
	Name   string `hcl:"name,label"`
	Policy string `hcl:"policy"`
}

// The policies use the names of a default configuration.
func TestPolicies(t *testing.T) {
	consul := load(t, "minimal.hcl").Consul
	tests := map[string]policy{
		"acl-policy.hcl": {
			Keys:     []rule{{consul.Prefix + "/", "write"}},
			Sessions: []rule{{"", "write"}},
			Services: []rule{{consul.Service, "write"}},
			Agents:   []rule{{"", "read"}},
		},
		"status-policy.hcl": {
			Keys:     []rule{{consul.Prefix + "/", "list"}},
			Sessions: []rule{{"", "read"}},
		},
	}
	for file, want := range tests {
		t.Run(file, func(t *testing.T) {
			parsed, diags := hclparse.NewParser().ParseHCLFile(file)
			require.False(t, diags.HasErrors(), "%v", diags)
			var got policy
			diags = gohcl.DecodeBody(parsed.Body, (*hcl.EvalContext)(nil), &got)
			require.False(t, diags.HasErrors(), "%v", diags)
			require.Equal(t, want, got)
		})
	}
}

// TestUnit checks the settings that the agent needs under systemd.
func TestUnit(t *testing.T) {
	unit := readUnit(t, "consul-vip.service")
	want := map[string]string{
		"Unit.StartLimitIntervalSec":      "0",
		"Service.ExecStart":               "/usr/local/bin/consul-vip agent -config=/etc/consul-vip",
		"Service.ExecReload":              "/bin/kill -HUP $MAINPID",
		"Service.RuntimeDirectory":        filepath.Base(filepath.Dir(config.DefaultSocket)),
		"Service.RuntimeDirectoryMode":    "0700",
		"Service.Restart":                 "always",
		"Service.AmbientCapabilities":     "CAP_NET_ADMIN CAP_NET_RAW",
		"Service.CapabilityBoundingSet":   "CAP_NET_ADMIN CAP_NET_RAW",
		"Service.RestrictAddressFamilies": "AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_UNIX",
		"Service.TimeoutStopSec":          "10",
		"Install.WantedBy":                "multi-user.target",
	}
	for key, value := range want {
		require.Equal(t, value, unit[key], key)
	}
	require.Contains(t, unit["Unit.After"], "network-online.target")
	require.Contains(t, unit["Unit.After"], "consul.service")
	for _, key := range []string{"Unit.Requires", "Unit.BindsTo", "Service.PrivateNetwork", "Service.PrivateUsers"} {
		require.NotContains(t, unit, key)
	}
}

// readUnit returns the values of a systemd unit by section and key. Each key may occur
// once.
func readUnit(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()

	values, section := make(map[string]string), ""
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			require.Contains(t, []string{"Unit", "Service", "Install"}, section)
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		require.True(t, ok, "no assignment: %s", line)
		key = section + "." + key
		require.NotContains(t, values, key)
		values[key] = value
	}
	require.NoError(t, lines.Err())
	return values
}
