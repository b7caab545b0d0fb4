package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.hcl")
	require.NoError(t, os.WriteFile(good, []byte(`vip "10.77.0.100" {}`), 0o600))
	bad := filepath.Join(dir, "bad.hcl")
	require.NoError(t, os.WriteFile(bad, []byte("vip \"10.77.0.100\" {\n  interfase = \"eth0\"\n}\n"), 0o600))

	tests := map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"no command":            {nil, exitUsage, "", "Usage: consul-vip"},
		"unknown command":       {[]string{"agnet"}, exitUsage, "", `no command "agnet"`},
		"--version":             {[]string{"--version"}, exitOK, "consul-vip ", ""},
		"help":                  {[]string{"--help"}, exitOK, "Usage: consul-vip", ""},
		"version":               {[]string{"version"}, exitOK, "consul-vip ", ""},
		"agent help":            {[]string{"agent", "-h"}, exitOK, "-config", ""},
		"agent without config":  {[]string{"agent"}, exitUsage, "", "-config=FILE|DIR, or addresses in CONSUL_VIP_VIPS"},
		"agent, stray argument": {[]string{"agent", "-config=" + good, "stray"}, exitUsage, "", `"stray"`},
		"agent, unknown flag":   {[]string{"agent", "-confg=x"}, exitUsage, "", "-confg"},
		"agent, bad config":     {[]string{"agent", "--config", bad}, exitConfig, "", "bad.hcl:2:3"},
		"agent, no such config": {[]string{"agent", "-config=" + dir + "/none.hcl"}, exitConfig, "", "none.hcl"},
		"validate":              {[]string{"validate", good}, exitOK, "1 VIP", ""},
		"validate nothing":      {[]string{"validate"}, exitUsage, "", "needs a file or directory, or addresses in CONSUL_VIP_VIPS"},
		"validate bad":          {[]string{"validate", bad}, exitConfig, "", `Did you mean "interface"?`},
		"status, unknown flag":  {[]string{"status", "-jsn"}, exitUsage, "", "-jsn"},
		"status, no Consul":     {[]string{"status", "-http-addr=127.0.0.1:1"}, exitFailure, "", "refused"},
		"status, stray":         {[]string{"status", "10.0.0.1"}, exitUsage, "", `"10.0.0.1"`},
		"move nothing":          {[]string{"move"}, exitUsage, "", "needs one address"},
		"move, no address":      {[]string{"move", "10.0.0"}, exitUsage, "", `"10.0.0" is not an IP address`},
		"move two":              {[]string{"move", "10.0.0.1", "10.0.0.2"}, exitUsage, "", "needs one address"},
		"move, unknown flag":    {[]string{"move", "10.0.0.1", "-too=h1"}, exitUsage, "", "-too"},
		"move, flag behind":     {[]string{"move", "10.0.0.1", "--to", "h2", "-http-addr=127.0.0.1:1"}, exitFailure, "", "refused"},
		"move, flag before":     {[]string{"move", "-to=h2", "-http-addr=127.0.0.1:1", "10.0.0.1"}, exitFailure, "", "refused"},
		"move help":             {[]string{"move", "-h"}, exitOK, "/pin h2", ""},
		"unpin nothing":         {[]string{"unpin"}, exitUsage, "", "needs one address"},
		"release nothing":       {[]string{"release", "-hold"}, exitUsage, "", "needs one address"},
		"drain an address":      {[]string{"drain", "10.0.0.1"}, exitUsage, "", "takes no arguments"},
		"drain, no Consul":      {[]string{"drain", "-http-addr=127.0.0.1:1"}, exitFailure, "", "-node"},
		"undrain an address":    {[]string{"undrain", "10.0.0.1"}, exitUsage, "", "takes no arguments"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, test.code, run(test.args, &stdout, &stderr))
			assert.Contains(t, stdout.String(), test.stdout)
			assert.Contains(t, stderr.String(), test.stderr)
			if test.stdout == "" {
				assert.Empty(t, stdout.String())
			}
			if test.stderr == "" {
				assert.Empty(t, stderr.String())
			}
		})
	}
}

func TestRunByEnvironment(t *testing.T) {
	const vips, two = "CONSUL_VIP_VIPS", "10.77.0.100, fd77::100"
	bad := filepath.Join(t.TempDir(), "bad.hcl")
	require.NoError(t, os.WriteFile(bad, []byte("log_level = 1"), 0o600))
	tests := map[string]struct {
		args      []string
		variables map[string]string
		code      int
		text      string
	}{
		"validate":               {[]string{"validate"}, map[string]string{vips: two}, exitOK, "2 VIPs"},
		"validate, no address":   {[]string{"validate"}, map[string]string{vips: ""}, exitUsage, vips},
		"validate, bad value":    {[]string{"validate"}, map[string]string{vips: two, "CONSUL_VIP_LOG_LEVEL": "x"}, exitConfig, "CONSUL_VIP_LOG_LEVEL: Error: "},
		"validate, bad file too": {[]string{"validate", bad}, map[string]string{vips: "x"}, exitConfig, "2 problems"},
		"agent, misspelt":        {[]string{"agent"}, map[string]string{vips: two, "CONSUL_VIP_LOG_LEVL": "info"}, exitConfig, "Did you mean CONSUL_VIP_LOG_LEVEL?"},
		"agent, cannot serve":    {[]string{"agent"}, map[string]string{vips: two, "CONSUL_VIP_VIP_INTERFACE": "no-such-link"}, exitFailure, ""},
		"probe, misspelt":        {[]string{"probe"}, map[string]string{vips: two, "CONSUL_VIP_X": "x"}, exitConfig, "CONSUL_VIP_X"},
		"status, others' names":  {[]string{"status", "-http-addr=127.0.0.1:1"}, map[string]string{"CONSUL_VIP_X": "x"}, exitFailure, "refused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for name, value := range test.variables {
				t.Setenv(name, value)
			}
			var out bytes.Buffer
			assert.Equal(t, test.code, run(test.args, &out, &out), &out)
			assert.Contains(t, out.String(), test.text)
		})
	}
}

// Without the capabilities the error is about them, with them about the missing
// interface.
func TestRunCannotServe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vip.hcl")
	require.NoError(t, os.WriteFile(file, []byte(`vip "10.77.0.100" { interface = "no-such-link" }`), 0o600))
	var stdout, stderr bytes.Buffer
	assert.Equal(t, exitFailure, run([]string{"agent", "-config=" + file}, &stdout, &stderr))
	assert.Regexp(t, "no-such-link|CAP_NET_ADMIN", stderr.String())
	assert.Empty(t, stdout.String())
}
