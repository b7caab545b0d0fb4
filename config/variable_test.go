package config_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
)

const oneVIP = "CONSUL_VIP_VIPS=10.77.0.100"

// loadSource loads a file with this text, or no file if the text is empty.
func loadSource(t *testing.T, src string, environ ...string) (*config.Config, error) {
	t.Helper()
	if src == "" {
		return config.Load(environ)
	}
	path := filepath.Join(t.TempDir(), "test.hcl")
	require.NoError(t, os.WriteFile(path, []byte(src), 0o600))
	return config.Load(environ, path)
}

func TestVariables(t *testing.T) {
	const twoVIPs = "vip \"10.77.0.100\" {}\nvip \"10.77.0.101\" "
	for _, tt := range []struct {
		name    string
		src     string
		environ []string
		want    func(*config.Config)
	}{
		{"addresses", "", []string{"CONSUL_VIP_VIPS= 10.77.0.100 ,\tFD77:0::100,10.77.0.102/24"}, func(c *config.Config) {
			c.VIPs = append(c.VIPs, vip("fd77::100/128"), vip("10.77.0.102/24"))
		}},
		{"a file without addresses", `log_level = "warn"`, []string{oneVIP}, func(c *config.Config) { c.LogLevel = hclog.Warn }},
		{"addresses in a file", `vip "10.77.0.100" {}`, []string{"CONSUL_VIP_VIPS=10.77.0.101,nonsense"}, func(*config.Config) {}},
		{"top level", "", []string{oneVIP, "CONSUL_VIP_LOG_LEVEL=debug", "CONSUL_VIP_LOG_JSON=true", "CONSUL_VIP_NODE_NAME=h1"}, func(c *config.Config) {
			c.LogLevel, c.LogJSON, c.NodeName = hclog.Debug, true, "h1"
		}},
		{"consul", "", []string{
			oneVIP, "CONSUL_VIP_CONSUL_ADDRESS=10.77.0.1:8500", "CONSUL_VIP_CONSUL_TOKEN_FILE=/token", "CONSUL_VIP_CONSUL_PREFIX=infra/vips/",
			"CONSUL_VIP_CONSUL_SERVICE=vips", "CONSUL_VIP_CONSUL_SESSION_TTL=10s", "CONSUL_VIP_CONSUL_CHECK_TTL=0s",
		}, func(c *config.Config) {
			c.Consul = config.Consul{Address: "10.77.0.1:8500", TokenFile: "/token", Prefix: "infra/vips", Service: "vips", SessionTTL: 10 * time.Second}
		}},
		{"host check", "", []string{oneVIP, "CONSUL_VIP_HOST_CHECK_INTERVAL=10ms", "CONSUL_VIP_HOST_CHECK_MISSES=5"}, func(c *config.Config) {
			c.HostCheck = config.HostCheck{Interval: 10 * time.Millisecond, Misses: 5}
			c.VIPs[0].HostCheck = c.HostCheck
		}},
		{"every address", twoVIPs + `{}`, []string{
			"CONSUL_VIP_VIP_INTERFACE=bond0", "CONSUL_VIP_VIP_PRIORITY=7", "CONSUL_VIP_VIP_ON_CONFLICT=quit", "CONSUL_VIP_VIP_ON_LOSS=contend",
			"CONSUL_VIP_VIP_TAKEOVER=strict", "CONSUL_VIP_VIP_PREEMPT=true", "CONSUL_VIP_VIP_PREEMPT_DELAY=1m", "CONSUL_VIP_VIP_DEAD_MAN=8s",
			"CONSUL_VIP_VIP_ANNOUNCE_INTERVAL=1m", "CONSUL_VIP_VIP_ANNOUNCE_JITTER=0s",
		}, func(c *config.Config) {
			v := config.VIP{
				Prefix: netip.MustParsePrefix("10.77.0.100/32"), Interface: "bond0", Priority: 7,
				OnConflict: config.ConflictQuit, OnLoss: config.LossContend, Takeover: config.TakeoverStrict, PreemptDelay: time.Minute,
				DeadMan: 8 * time.Second, Announce: config.Announce{Interval: time.Minute}, WhenNoneFit: config.NoneFitKeep,
				HostCheck: config.HostCheck{Interval: 25 * time.Millisecond},
			}
			c.VIPs = []config.VIP{v, v}
			c.VIPs[1].Prefix = netip.MustParsePrefix("10.77.0.101/32")
		}},
		{"the file wins", `
			log_level = "error"
			consul { prefix = "file" }
			host_check { misses = 3 }
			vip "10.77.0.100" {
				priority = 1
				announce { jitter = "0s" }
			}
			vip "10.77.0.101" { priority = null }`, []string{
			"CONSUL_VIP_LOG_LEVEL=nonsense", "CONSUL_VIP_CONSUL_PREFIX=variable", "CONSUL_VIP_HOST_CHECK_MISSES=4", "CONSUL_VIP_VIP_PRIORITY=2",
			"CONSUL_VIP_VIP_ANNOUNCE_INTERVAL=5s", "CONSUL_VIP_CONSUL_SERVICE=vips",
		}, func(c *config.Config) {
			c.LogLevel, c.Consul.Prefix, c.Consul.Service, c.HostCheck.Misses = hclog.Error, "file", "vips", 3
			c.VIPs = append(c.VIPs, vip("10.77.0.101/32"))
			for i := range c.VIPs {
				c.VIPs[i].Priority, c.VIPs[i].HostCheck.Misses, c.VIPs[i].Announce.Interval = i+1, 3, 5*time.Second
			}
			c.VIPs[0].Announce.Jitter, c.VIPs[1].Announce.Jitter = 0, 500*time.Millisecond
		}},
		{"when none is fit, where it matters", twoVIPs + "{ require = [\"a\"] }\ncheck \"a\" { tcp = \"127.0.0.1:80\" }", []string{"CONSUL_VIP_VIP_WHEN_NONE_FIT=release"}, func(c *config.Config) {
			c.VIPs[0].WhenNoneFit = config.NoneFitRelease
			c.VIPs = append(c.VIPs, vip("10.77.0.101/32"))
			c.VIPs[1].WhenNoneFit, c.VIPs[1].Require = config.NoneFitRelease, []string{"a"}
			c.Checks = []config.Check{{Name: "a", TCP: "127.0.0.1:80", Interval: time.Second, Timeout: 500 * time.Millisecond, Rise: 3, Fall: 2}}
		}},
		{"an empty variable is missing", "", []string{oneVIP, "CONSUL_VIP_LOG_LEVEL=", "CONSUL_VIP_NODE_NAME=", "CONSUL_VIP_NONSENSE="}, func(*config.Config) {}},
		{"variables of others", "", []string{oneVIP, "CONSUL_VIP_HOOK_EVENT=acquired", "CONSUL_VIPS=1", "LOG_LEVEL=debug", "CONSUL_HTTP_ADDR=x", "nonsense"}, func(*config.Config) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := defaults("10.77.0.100/32")
			tt.want(want)
			got, err := loadSource(t, tt.src, tt.environ...)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestParseReadsNoVariables(t *testing.T) {
	t.Setenv("CONSUL_VIP_LOG_LEVEL", "nonsense")
	t.Setenv("CONSUL_VIP_NONSENSE", "1")
	got, err := config.Parse("test.hcl", []byte(`vip "10.77.0.100" {}`))
	require.NoError(t, err)
	require.Equal(t, defaults("10.77.0.100/32"), got)
}

// TestBadVariables has one problem each, and some words of its explanation.
func TestBadVariables(t *testing.T) {
	for _, tt := range []struct{ variable, says string }{
		{"LOG_LEVEL=debgu", `Did you mean "debug"?`},
		{"LOG_JSON=yes", "a bool is required"},
		{"NODE_NAME=a/b", `"a/b" is not a node name`},
		{"CONSUL_ADDRESS=ftp://x", "not the address of a Consul agent"},
		{"CONSUL_TOKEN_FILE= ", "The file name is empty."},
		{"CONSUL_PREFIX=a//b", "not a key prefix"},
		{"CONSUL_SERVICE=a.b", "not a service name"},
		{"CONSUL_SESSION_TTL=30", `Did you mean "30s"?`},
		{"CONSUL_CHECK_TTL=1s", "It takes 2s to 1m"},
		{"CONSUL_CHECK_TTL=6s", "The one at CONSUL_VIP_VIPS leaves it out"},
		{"HOST_CHECK_INTERVAL=25", `Did you mean "25ms"?`},
		{"HOST_CHECK_MISSES=1", "from 3 to 100"},
		{"HOST_CHECK_MISSES=many", "a number is required"},
		{"VIP_INTERFACE=a b", "not an interface name"},
		{"VIP_PRIORITY=1001", "from 0 (preferred) to 1000"},
		{"VIP_ON_CONFLICT=deffend", `Did you mean "defend"?`},
		{"VIP_ON_LOSS=x", `"exit", "contend"`},
		{"VIP_TAKEOVER=x", `"probe", "strict"`},
		{"VIP_PREEMPT=2", "a bool is required"},
		{"VIP_PREEMPT_DELAY=0s", "too short"},
		{"VIP_DEAD_MAN=1s", "check_ttl + 2s"},
		{"VIP_WHEN_NONE_FIT=x", `"keep", "release"`},
		{"VIP_ANNOUNCE_INTERVAL=1", "no unit"},
		{"VIP_ANNOUNCE_JITTER=10s", "less than the interval, 10s"},

		{"VIPS=10.77.0.100,fd77::/64", `"fd77::/64" is the anycast address`},
		{"VIPS=10.77.0.100,", `"" is not an IP address`},
		{"VIPS=10.77.0.100,10.77.0.100/24", "10.77.0.100 is there already, at CONSUL_VIP_VIPS."},

		{"LOG_LEVL=debug", "Did you mean CONSUL_VIP_LOG_LEVEL?"},
		{"VIP=10.77.0.100", "Did you mean CONSUL_VIP_VIPS?"},
		{"PREFIX=x", "Did you mean CONSUL_VIP_CONSUL_PREFIX?"},
		{"INTERFCAE=x", "Did you mean CONSUL_VIP_VIP_INTERFACE?"},
		{"ANNOUNCE_JITTER=1s", "Did you mean CONSUL_VIP_VIP_ANNOUNCE_JITTER?"},
		{"VIP_HOST_CHECK_MISSES=3", "Did you mean CONSUL_VIP_HOST_CHECK_MISSES?"},
		{"VIP_REQUIRE=a", "No setting has this name."},
		{"TEST=1", "No setting has this name."},
		{"=1", "No setting has this name."},
	} {
		t.Run(tt.variable, func(t *testing.T) {
			name, _, _ := strings.Cut("CONSUL_VIP_"+tt.variable, "=")
			_, err := config.Load([]string{"CONSUL_VIP_" + tt.variable, oneVIP})
			var problems *config.Error
			require.ErrorAs(t, err, &problems)
			require.Len(t, problems.Diagnostics, 1, "%v", err)
			require.ErrorContains(t, err, "the configuration has 1 problem\n\n"+name+": Error: ")
			require.Contains(t, problems.Diagnostics[0].Detail, tt.says)
			require.NotContains(t, err.Error(), "line 0")
		})
	}
}

// TestAllProblemsAtOnce has problems in files and in variables. That of a default for all
// addresses is there once.
func TestAllProblemsAtOnce(t *testing.T) {
	cfg, err := loadSource(t, "vip \"10.77.0.100\" {}\nvip \"10.77.0.101\" {\n  takeover = \"x\"\n}\n",
		"CONSUL_VIP_VIP_PRIORITY=many", "CONSUL_VIP_LOG_LEVEL=debgu", "CONSUL_VIP_TOKEN=c0ffee")
	require.Nil(t, cfg)
	_, text, _ := strings.Cut(err.Error(), "\n")
	text, inFile, _ := strings.Cut(text, "/")
	require.Equal(t, `
CONSUL_VIP_LOG_LEVEL: Error: Invalid log_level

"debgu" is none of "trace", "debug", "info", "warn", "error". Did you mean
"debug"?

CONSUL_VIP_TOKEN: Error: Unknown variable

No setting has this name. Consul's variable for an ACL token is
CONSUL_HTTP_TOKEN.

CONSUL_VIP_VIP_PRIORITY: Error: Unsuitable value type

Unsuitable value: a number is required

`, text)
	require.Contains(t, inFile, "test.hcl:3:14: Error: Invalid takeover")
}

// A host_check block in a file contradicts a variable that the file does not show.
func TestStrictByVariable(t *testing.T) {
	_, err := loadSource(t, inVIP("host_check {}"), "CONSUL_VIP_VIP_TAKEOVER=strict")
	require.ErrorContains(t, err, "2:1: Error: Needless host_check block")
	require.ErrorContains(t, err, `With takeover = "strict", as CONSUL_VIP_VIP_TAKEOVER says,`)
}

func TestNoAddress(t *testing.T) {
	_, err := config.Load([]string{"CONSUL_VIP_VIPS=", "CONSUL_VIP_LOG_LEVEL=info"})
	require.ErrorContains(t, err, "or set CONSUL_VIP_VIPS.")
	_, err = loadSource(t, "log_json = true", "CONSUL_VIP_VIPS=")
	require.ErrorContains(t, err, "Missing vip block")
}

func TestLoadConsul(t *testing.T) {
	got, err := config.LoadConsul([]string{"CONSUL_VIP_CONSUL_PREFIX=/web/", "CONSUL_VIP_CONSUL_ADDRESS=h1:8500", "CONSUL_VIP_NONSENSE=1"})
	require.NoError(t, err)
	want := defaults("10.77.0.100/32").Consul
	want.Prefix, want.Address = "web", "h1:8500"
	require.Equal(t, want, got)

	_, err = config.LoadConsul([]string{"CONSUL_VIP_CONSUL_PREFIX=a//b"})
	require.ErrorContains(t, err, "CONSUL_VIP_CONSUL_PREFIX: Error: Invalid prefix")
}

// FuzzVariables checks that Load either explains its refusal or returns sound values, for
// any environment.
func FuzzVariables(f *testing.F) {
	for _, seed := range []string{
		oneVIP, oneVIP + ",fd77::100/64\nCONSUL_VIP_LOG_JSON=1", "CONSUL_VIP_VIPS=,\nCONSUL_VIP_X=y",
		oneVIP + "\nCONSUL_VIP_VIP_TAKEOVER=strict\nCONSUL_VIP_HOST_CHECK_MISSES=3",
		oneVIP + "\nCONSUL_VIP_CONSUL_CHECK_TTL=20s\nCONSUL_VIP_VIP_DEAD_MAN=25s\nCONSUL_VIP_VIP_PRIORITY=1e2",
		oneVIP + "\nCONSUL_VIP_VIP_ANNOUNCE_INTERVAL=1s\nCONSUL_VIP_VIP_ANNOUNCE_JITTER=999ms",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, environ string) {
		if huge.MatchString(environ) {
			t.Skip("huge number")
		}
		cfg, err := config.Load(strings.Split(environ, "\n"))
		if err == nil {
			requireSound(t, cfg)
			return
		}
		require.Nil(t, cfg)
		var problems *config.Error
		require.ErrorAs(t, err, &problems)
		require.NotEmpty(t, err.Error())
		for _, diag := range problems.Diagnostics {
			require.True(t, diag.Subject == nil || strings.HasPrefix(diag.Subject.Filename, "CONSUL_VIP_"), "%s", diag)
		}
	})
}
