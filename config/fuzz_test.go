package config_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
)

// huge matches a number that the HCL library needs minutes to convert to text.
var huge = regexp.MustCompile(`[eE]\+?[0-9]{6}`)

// FuzzParse checks that Parse either explains its refusal or returns values that the rest
// of the program can rely on, for any file.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"../examples/*.hcl", "testdata/bad/*/*.hcl"} {
		seeds, err := filepath.Glob(pattern)
		require.NoError(f, err)
		require.NotEmpty(f, seeds)
		for _, seed := range seeds {
			src, err := os.ReadFile(seed)
			require.NoError(f, err)
			f.Add(src)
		}
	}
	for _, src := range []string{
		inHostCheck("interval = \"5ms\"\nmisses = 100"),
		inHostCheck("misses = 0\ninterval = null"),
		inVIP("host_check { misses = env(\"MISSES\", 3) }"),
		inVIP("takeover = \"strict\"\nhost_check { interval = 25 }"),
		inHostCheck("misses = 1e2") + "\nhost_check {}",
		"check \"a\" {\nhttp = \"http://127.0.0.1/\"\nexpect = 204\nheader = { a = \"b\" }\n}\n" + inVIP("require = [\"a\"]"),
		inTCP("interval = \"100ms\"\nrise = 1\nfall = 100"),
		inCheck("service = \"web\""), inCheck("command = [\"true\"]"),
		inHook("timeout = \"1s\"\nvips = [\"10.77.0.100\"]"), inVIP("bind = false"),
	} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if huge.Match(src) {
			t.Skip("huge number")
		}
		cfg, err := config.Parse("fuzz.hcl", src)
		if err != nil {
			require.Nil(t, cfg)
			requireExplained(t, err, utf8.Valid(src))
			return
		}
		requireSound(t, cfg)
	})
}

func requireExplained(t *testing.T, err error, text bool) {
	t.Helper()
	var problems *config.Error
	require.ErrorAs(t, err, &problems)
	require.NotEmpty(t, err.Error())
	require.NotEmpty(t, problems.Diagnostics)
	for _, diag := range problems.Diagnostics {
		require.Equal(t, text, diag.Subject != nil, "%s", diag)
		if text {
			require.Equal(t, "fuzz.hcl", diag.Subject.Filename)
		}
	}
}

func requireSound(t *testing.T, cfg *config.Config) {
	t.Helper()
	require.NotEmpty(t, cfg.VIPs)
	require.NotEqual(t, hclog.NoLevel, cfg.LogLevel)
	require.NotContains(t, cfg.NodeName, "/")
	require.Regexp(t, `^[^/]+(/[^/]+)*$`, cfg.Consul.Prefix)
	require.NotEmpty(t, cfg.Consul.Service)
	requireBetween(t, 10*time.Second, cfg.Consul.SessionTTL, 24*time.Hour)
	least := 2 * time.Second
	if cfg.Consul.CheckTTL != 0 {
		least = cfg.Consul.CheckTTL + 2*time.Second
		requireBetween(t, 2*time.Second, cfg.Consul.CheckTTL, time.Minute)
	}
	requireSoundHostCheck(t, cfg.HostCheck)
	requireSoundChecks(t, cfg)
	requireSoundHooks(t, cfg.Hooks)
	seen := make(map[netip.Addr]bool)
	for _, vip := range cfg.VIPs {
		require.True(t, vip.Prefix.IsValid() && !vip.Addr().Is4In6() && vip.Addr().Zone() == "" && vip.Addr().IsGlobalUnicast(), "%s", vip.Prefix)
		require.False(t, seen[vip.Addr()], "%s twice", vip.Addr())
		seen[vip.Addr()] = true
		require.LessOrEqual(t, len(vip.Interface), 15)
		require.True(t, 0 <= vip.Priority && vip.Priority <= 1000)
		if vip.Unbound {
			require.Zero(t, vip.HostCheck.Misses)
			continue
		}
		requireBetween(t, least, vip.DeadMan, cfg.Consul.SessionTTL-time.Second-1)
		require.Zero(t, vip.DeadMan%time.Second)
		requireBetween(t, time.Second, vip.Announce.Interval, time.Hour)
		requireBetween(t, 0, vip.Announce.Jitter, vip.Announce.Interval-1)
		requireSoundHostCheck(t, vip.HostCheck)
		require.False(t, vip.Takeover == config.TakeoverStrict && vip.HostCheck.Misses > 0)
		require.NotEmpty(t, vip.OnConflict)
		require.NotEmpty(t, vip.OnLoss)
		require.NotEmpty(t, vip.Takeover)
	}
}

func requireSoundHooks(t *testing.T, hooks []config.Hook) {
	t.Helper()
	names := map[string]bool{}
	for _, h := range hooks {
		require.False(t, names[h.Name])
		names[h.Name] = true
		require.NotEmpty(t, h.On)
		require.NotEmpty(t, h.Command)
		requireBetween(t, 100*time.Millisecond, h.Timeout, 5*time.Minute)
	}
}

func requireSoundChecks(t *testing.T, cfg *config.Config) {
	t.Helper()
	names := map[string]bool{}
	for _, c := range cfg.Checks {
		require.False(t, names[c.Name])
		names[c.Name] = true
		targets := 0
		for _, given := range []bool{c.HTTP != "", c.TCP != "", len(c.Command) > 0, c.Service != ""} {
			if given {
				targets++
			}
		}
		require.Equal(t, 1, targets)
		require.True(t, 1 <= c.Rise && c.Rise <= 100 && 1 <= c.Fall && c.Fall <= 100)
		requireBetween(t, 100*time.Millisecond, c.Interval, time.Hour)
		requireBetween(t, time.Millisecond, c.Timeout, c.Interval-1)
	}
	for _, vip := range cfg.VIPs {
		require.NotEmpty(t, vip.WhenNoneFit)
		for _, name := range vip.Require {
			require.True(t, names[name])
		}
	}
}

func requireSoundHostCheck(t *testing.T, c config.HostCheck) {
	t.Helper()
	requireBetween(t, 5*time.Millisecond, c.Interval, time.Second)
	require.True(t, c.Misses == 0 || 3 <= c.Misses && c.Misses <= 100, "misses = %d", c.Misses)
}

func requireBetween(t *testing.T, lo, d, hi time.Duration) {
	t.Helper()
	require.True(t, lo <= d && d <= hi, "%s is not between %s and %s", d, lo, hi)
}
