package config_test

import (
	"flag"
	"io/fs"
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

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

// defaults returns the configuration of a single vip block without keys.
func defaults(addr string) *config.Config {
	return &config.Config{
		LogLevel: hclog.Info,
		Socket:   "/run/consul-vip/agent.sock",
		Consul: config.Consul{
			Prefix:     "consul-vip",
			Service:    "consul-vip",
			SessionTTL: 30 * time.Second,
			CheckTTL:   5 * time.Second,
		},
		HostCheck: config.HostCheck{Interval: 25 * time.Millisecond, Misses: 8},
		VIPs:      []config.VIP{vip(addr)},
	}
}

func vip(addr string) config.VIP {
	return config.VIP{
		Prefix:     netip.MustParsePrefix(addr),
		Priority:   100,
		OnConflict: config.ConflictExit,
		OnLoss:     config.LossExit,
		Takeover:   config.TakeoverProbe,
		DeadMan:    7 * time.Second,
		Announce:   config.Announce{Interval: 10 * time.Second, Jitter: time.Second},
		HostCheck:  config.HostCheck{Interval: 25 * time.Millisecond, Misses: 8},

		WhenNoneFit: config.NoneFitKeep,
	}
}

// goodSources are configurations and how their values differ from the defaults.
var goodSources = []struct {
	name, src string
	want      func(*config.Config)
}{
	{"a lone address", `vip "10.77.0.100" {}`, func(*config.Config) {}},
	{"IPv6", `vip "FD77:0::100" {}`, func(c *config.Config) {
		c.VIPs[0].Prefix = netip.MustParsePrefix("fd77::100/128")
	}},
	{"IPv6 with prefix length", `vip "fd77::100/64" {}`, func(c *config.Config) {
		c.VIPs[0].Prefix = netip.MustParsePrefix("fd77::100/64")
	}},
	{"prefix length", `vip "10.77.0.100/24" {}`, func(c *config.Config) {
		c.VIPs[0].Prefix = netip.MustParsePrefix("10.77.0.100/24")
	}},
	{"first address of a /31", `vip "10.77.0.100/31" {}`, func(c *config.Config) {
		c.VIPs[0].Prefix = netip.MustParsePrefix("10.77.0.100/31")
	}},
	{"top level", `
		log_level = "trace"
		log_json  = true
		node_name = "h1.example.com"
		socket    = "/run/vips//h1.sock"
		vip "10.77.0.100" {}`, func(c *config.Config) {
		c.LogLevel, c.LogJSON, c.NodeName, c.Socket = hclog.Trace, true, "h1.example.com", "/run/vips/h1.sock"
	}},
	{"the longest socket", `
		socket = "/` + strings.Repeat("s", 106) + `"
		vip "10.77.0.100" {}`, func(c *config.Config) {
		c.Socket = "/" + strings.Repeat("s", 106)
	}},
	{"no socket", `
		socket = ""
		vip "10.77.0.100" {}`, func(c *config.Config) {
		c.Socket = ""
	}},
	{"consul", `
		consul {
			address     = "https://consul.example.com:8501"
			token_file  = "/run/secrets/consul-token"
			prefix      = "/infra/vips/"
			service     = "vips"
			session_ttl = "10.5s"
			check_ttl   = "0s"
		}
		vip "10.77.0.100" {}`, func(c *config.Config) {
		c.Consul = config.Consul{
			Address:    "https://consul.example.com:8501",
			TokenFile:  "/run/secrets/consul-token",
			Prefix:     "infra/vips",
			Service:    "vips",
			SessionTTL: 10500 * time.Millisecond,
		}
	}},
	{"a vip's keys", `
		vip "10.77.0.100" {
			interface   = "bond0.100"
			priority    = 0
			on_conflict = "defend"
			on_loss     = "contend"
			takeover    = "strict"
			preempt     = true
			dead_man    = "28s"
			announce {
				interval = "1m"
				jitter   = "0s"
			}
		}`, func(c *config.Config) {
		c.VIPs[0] = config.VIP{
			Prefix:     netip.MustParsePrefix("10.77.0.100/32"),
			Interface:  "bond0.100",
			OnConflict: config.ConflictDefend,
			OnLoss:     config.LossContend,
			Takeover:   config.TakeoverStrict,

			PreemptDelay: config.DefaultPreemptDelay,
			DeadMan:      28 * time.Second,
			Announce:     config.Announce{Interval: time.Minute},
			HostCheck:    config.HostCheck{Interval: 25 * time.Millisecond}, // off, because of strict
			WhenNoneFit:  config.NoneFitKeep,
		}
	}},
	{"checks", `
		check "web" {
			http            = "https://127.0.0.1:8443/ping"
			header          = { Host = "www.example.com" }
			tls_skip_verify = true
			expect          = 204
			interval        = "2s"
			timeout         = "1s"
			rise            = 1
			fall            = 5
		}
		check "text" {
			http   = "http://[::1]:8080"
			expect = "pong"
		}
		check "quick" {
			tcp      = "localhost:443"
			interval = "200ms"
		}
		check "ok" {
			command = ["/usr/local/bin/ok", "-q"]
		}
		check "consul" {
			service = "traefik"
		}
		vip "10.77.0.100" {
			require       = ["web", "consul"]
			when_none_fit = "release"
		}`, func(c *config.Config) {
		usual := func(name string) config.Check {
			return config.Check{Name: name, Interval: time.Second, Timeout: 500 * time.Millisecond, Rise: 3, Fall: 2}
		}
		text, quick, ok := usual("text"), usual("quick"), usual("ok")
		text.HTTP, text.ExpectText = "http://[::1]:8080", "pong"
		quick.TCP, quick.Interval, quick.Timeout = "localhost:443", 200*time.Millisecond, 100*time.Millisecond
		ok.Command = []string{"/usr/local/bin/ok", "-q"}
		c.Checks = []config.Check{{
			Name: "web", HTTP: "https://127.0.0.1:8443/ping", Header: map[string]string{"Host": "www.example.com"},
			TLSSkipVerify: true, ExpectStatus: 204, Interval: 2 * time.Second, Timeout: time.Second, Rise: 1, Fall: 5,
		}, text, quick, ok, {Name: "consul", Service: "traefik", Interval: time.Second, Timeout: 500 * time.Millisecond, Rise: 1, Fall: 1}}
		c.VIPs[0].Require, c.VIPs[0].WhenNoneFit = []string{"web", "consul"}, config.NoneFitRelease
	}},
	{"host check for all", `
		host_check { interval = "1s" }
		vip "10.77.0.100" {}`, func(c *config.Config) {
		c.HostCheck.Interval = time.Second
		c.VIPs[0].HostCheck.Interval = time.Second
	}},
	{"host check of a vip", `
		host_check {
			interval = "5ms"
			misses   = 100
		}
		vip "10.77.0.100" {
			host_check { misses = 3 }
		}
		vip "10.77.0.101" {
			host_check { interval = "50ms" }
		}
		vip "10.77.0.102" {
			takeover = "strict"
		}`, func(c *config.Config) {
		c.HostCheck = config.HostCheck{Interval: 5 * time.Millisecond, Misses: 100}
		c.VIPs[0].HostCheck = config.HostCheck{Interval: 5 * time.Millisecond, Misses: 3}
		c.VIPs = append(c.VIPs, vip("10.77.0.101/32"), vip("10.77.0.102/32"))
		c.VIPs[1].HostCheck = config.HostCheck{Interval: 50 * time.Millisecond, Misses: 100}
		c.VIPs[2].Takeover = config.TakeoverStrict
		c.VIPs[2].HostCheck = config.HostCheck{Interval: 5 * time.Millisecond}
	}},
	{"no host check, except for one vip", `
		host_check { misses = 0 }
		vip "10.77.0.100" {
			host_check { misses = 8 }
		}
		vip "10.77.0.101" {
			host_check {
				interval = null
				misses   = null
			}
		}`, func(c *config.Config) {
		c.HostCheck.Misses = 0
		c.VIPs = append(c.VIPs, vip("10.77.0.101/32"))
		c.VIPs[1].HostCheck.Misses = 0
	}},
	{"least dead_man", `
		consul { check_ttl = "2500ms" }
		vip "10.77.0.100" { dead_man = "5s" }`, func(c *config.Config) {
		c.Consul.CheckTTL = 2500 * time.Millisecond
		c.VIPs[0].DeadMan = 5 * time.Second
	}},
	{"least dead_man without a check", `
		consul { check_ttl = "0s" }
		vip "10.77.0.100" { dead_man = "2s" }`, func(c *config.Config) {
		c.Consul.CheckTTL = 0
		c.VIPs[0].DeadMan = 2 * time.Second
	}},
	{"jitter follows interval", `
		vip "10.77.0.100" {
			announce { interval = "1s" }
		}`, func(c *config.Config) {
		c.VIPs[0].Announce = config.Announce{Interval: time.Second, Jitter: 100 * time.Millisecond}
	}},
	{"null is left out", `
		node_name = null
		vip "10.77.0.100" { interface = null }`, func(*config.Config) {}},
	{"environment", `
		log_json  = env("TEST_EMPTY", "true")
		node_name = "rack-${env("TEST_PRIORITY")}"
		vip "10.77.0.100" { priority = env("TEST_PRIORITY", "9") }`, func(c *config.Config) {
		c.LogJSON, c.NodeName, c.VIPs[0].Priority = true, "rack-7", 7
	}},
	{"hooks", `
		hook "notify" {
			on      = ["acquired", "pre_release", "released", "lost", "conflict", "unfit", "fit"]
			command = ["/etc/consul-vip/notify.sh", "-q"]
		}
		hook "attach" {
			on      = ["acquired"]
			command = ["attach"]
			timeout = "1m"
			vips    = ["10.77.0.100"]
		}
		vip "10.77.0.100" { bind = false }`, func(c *config.Config) {
		c.VIPs[0].Unbound, c.VIPs[0].HostCheck.Misses = true, 0
		c.Hooks = []config.Hook{
			{
				Name: "notify", Command: []string{"/etc/consul-vip/notify.sh", "-q"}, Timeout: 5 * time.Second,
				On: []config.HookEvent{config.HookAcquired, config.HookPreRelease, config.HookReleased, config.HookLost, config.HookConflict, config.HookUnfit, config.HookFit},
			},
			{
				Name: "attach", Command: []string{"attach"}, Timeout: time.Minute,
				On: []config.HookEvent{config.HookAcquired}, VIPs: []netip.Addr{netip.MustParseAddr("10.77.0.100")},
			},
		}
	}},
	{"no dead_man without bind", `
		consul { check_ttl = "20s" }
		vip "10.77.0.100" { bind = false }`, func(c *config.Config) {
		c.Consul.CheckTTL = 20 * time.Second
		c.VIPs[0].Unbound, c.VIPs[0].HostCheck.Misses = true, 0
	}},
	{"order of appearance", `
		vip "10.77.0.100" {}
		vip "10.77.0.9" {}
		vip "10.77.0.10" {}`, func(c *config.Config) {
		c.VIPs = append(c.VIPs, vip("10.77.0.9/32"), vip("10.77.0.10/32"))
	}},
}

func TestParseGood(t *testing.T) {
	t.Setenv("TEST_PRIORITY", "7")
	t.Setenv("TEST_EMPTY", "")
	for _, tt := range goodSources {
		t.Run(tt.name, func(t *testing.T) {
			want := defaults("10.77.0.100/32")
			tt.want(want)
			got, err := config.Parse("test.hcl", []byte(tt.src))
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestAgentAddresses(t *testing.T) {
	for _, addr := range []string{
		"127.0.0.1:8500", "consul.service.consul:8500", "[::1]:8500", "localhost",
		"http://127.0.0.1:8500", "https://consul.example.com", "https://example.com:8501/consul", "unix:///run/consul.sock",
	} {
		t.Run(addr, func(t *testing.T) {
			cfg, err := config.Parse("test.hcl", []byte(`consul { address = "`+addr+`" }
				vip "10.77.0.100" {}`))
			require.NoError(t, err)
			require.Equal(t, addr, cfg.Consul.Address)
		})
	}
}

func TestLoadMergesFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, src string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(src), 0o644))
		return path
	}
	write("vips/20.hcl", `vip "10.77.0.2" {}`)
	write("vips/10.hcl", `vip "10.77.0.1" {}`)
	write("vips/.#10.hcl", `not a configuration`)
	write("vips/10.hcl~", `not a configuration`)
	write("vips/old/30.hcl", `vip "10.77.0.3" {}`)
	base := write("base.hcl", `consul { prefix = "vips" }`)

	// The first file is given twice more, once by its directory.
	first := filepath.Join(dir, "vips", ".", "10.hcl")
	got, err := config.Load(nil, base, first, filepath.Join(dir, "vips"), first)
	require.NoError(t, err)

	want := defaults("10.77.0.1/32")
	want.Consul.Prefix = "vips"
	want.VIPs = append(want.VIPs, vip("10.77.0.2/32"))
	require.Equal(t, want, got)
}

func TestLoadReportsFiles(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.hcl")

	cfg, err := config.Load(nil, missing, dir)
	require.Nil(t, cfg)
	require.ErrorIs(t, err, fs.ErrNotExist)

	var problems *config.Error
	require.ErrorAs(t, err, &problems)
	require.Len(t, problems.Diagnostics, 2)
	require.ErrorContains(t, err, "the configuration has 2 problems\n")
	require.ErrorContains(t, err, missing)
	require.ErrorContains(t, err, dir+" holds no file named *.hcl.")

	_, err = config.Load(nil)
	require.ErrorContains(t, err, "Name at least one file or directory, or set CONSUL_VIP_VIPS.")
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

func TestLoadReportsUnreadableEntries(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, "a.hcl")))
	_, err := config.Load(nil, dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, filepath.Join(dir, "a.hcl"))
}

// A file that is not a configuration must not flood the terminal.
func TestParseOtherFiles(t *testing.T) {
	_, err := config.Parse("consul-vip", []byte("\x7fELF\x02\x01\xff"))
	require.ErrorContains(t, err, "The file consul-vip is not UTF-8 text.")

	_, err = config.Parse("vips.hcl", []byte(strings.Repeat("vip \"10.77.0.100\" {}\n", 61)))
	require.ErrorContains(t, err, "the configuration has 60 problems\n")
	require.ErrorContains(t, err, "\nvips.hcl:51:5: ")
	require.NotContains(t, err.Error(), "\nvips.hcl:52:5: ")
	require.ErrorContains(t, err, "\nand 10 more")
}

// TestGolden compares complete error texts. Run it with -update to rewrite the files.
func TestGolden(t *testing.T) {
	dirs, err := filepath.Glob("testdata/bad/*")
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			cfg, err := config.Load(nil, dir)
			require.Nil(t, cfg)
			require.Error(t, err)
			golden := filepath.Join(dir, "want.txt")
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644))
			}
			want, readErr := os.ReadFile(golden)
			require.NoError(t, readErr)
			require.Equal(t, string(want), err.Error()+"\n")
		})
	}
}
