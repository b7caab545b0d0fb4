// Package nomad_test checks the job files, and the Dockerfile that one of them needs.
package nomad_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"

	"github.com/consul-vip/consul-vip/config"
)

// drivers maps each job file to its driver.
var drivers = map[string]string{
	"consul-vip.nomad.hcl":           "docker",
	"consul-vip-raw-exec.nomad.hcl":  "raw_exec",
	"consul-vip-identity.nomad.hcl":  "raw_exec",
	"consul-vip-variables.nomad.hcl": "raw_exec",
	traefikJob:                       "raw_exec",
}

const (
	// traefikJob is the job whose address follows Traefik.
	traefikJob = "consul-vip-traefik.nomad.hcl"
	// announceJob is the job that needs no Consul.
	announceJob = "announce.nomad.hcl"
)

func TestNoJobIsForgotten(t *testing.T) {
	files, err := filepath.Glob("*.nomad.hcl")
	require.NoError(t, err)
	require.Len(t, files, len(drivers)+1)
	require.Contains(t, files, announceJob)
}

// The sidecar of the announcer must start again without a limit, and wait for the one that
// it replaces.
func TestAnnounceJob(t *testing.T) {
	j := load(t, announceJob)
	require.Equal(t, "service", get[string](t, j, j.job(t), "type"))
	group := block(t, j.job(t), "group")
	require.Equal(t, 1, get[int](t, j, group, "count"))
	j.restartsForEver(t, group)
	address := labelled(t, group, "task", "address")
	require.True(t, get[bool](t, j, block(t, address, "lifecycle"), "sidecar"))
	args := get[[]string](t, j, block(t, address, "config"), "args")
	require.Equal(t, []string{"announce", "-ip=10.77.0.100", "-wait=30s", "-log-json"}, args)
}

// All jobs of the agent must survive a lost lock, stop in time, update one host after the other and
// give the agent a configuration that it accepts.
func TestJobs(t *testing.T) {
	for file, driver := range drivers {
		t.Run(file, func(t *testing.T) {
			j := load(t, file)
			task := j.task(t)
			require.Equal(t, "system", get[string](t, j, j.job(t), "type"))
			j.restartsForEver(t, j.group(t))
			require.Equal(t, 1, get[int](t, j, block(t, j.job(t), "update"), "max_parallel"))
			require.Equal(t, driver, get[string](t, j, task, "driver"))
			require.GreaterOrEqual(t, duration(t, j, task, "kill_timeout"), 5*time.Second)
			args := get[[]string](t, j, block(t, task, "config"), "args")
			require.Equal(t, []string{"agent", "-config=local/consul-vip.hcl"}, args)

			require.Equal(t, "signal", get[string](t, j, j.template(t), "change_mode"))
			require.Equal(t, "SIGHUP", get[string](t, j, j.template(t), "change_signal"))
			cfg := j.configure(t, map[string]string{})
			require.Len(t, cfg.VIPs, 2)
			require.Equal(t, 100, cfg.VIPs[1].Priority)
			require.Equal(t, config.DefaultPrefix, cfg.Consul.Prefix)
			cfg = j.configure(t, map[string]string{"meta.vip_priority": "10"})
			require.Equal(t, 10, cfg.VIPs[1].Priority)
		})
	}
}

// The address must require the service that Nomad registers, whose check must ask where
// Traefik listens. The address must have moved before Traefik ends, and Traefik must get the
// ten seconds that it gives open requests.
func TestTraefikJob(t *testing.T) {
	j := load(t, traefikJob)
	group := labelled(t, j.job(t), "group", "traefik")
	j.restartsForEver(t, group)
	task := labelled(t, group, "task", "traefik")
	args := get[[]string](t, j, block(t, task, "config"), "args")
	for label, entry := range map[string]string{"http": "web", "ping": "ping"} {
		port := get[int](t, j, labelled(t, block(t, group, "network"), "port", label), "static")
		require.Contains(t, args, fmt.Sprintf("--entryPoints.%s.address=:%d", entry, port))
	}
	require.Contains(t, args, "--ping.entryPoint=ping")
	service := block(t, task, "service")
	check := block(t, service, "check")
	require.Equal(t, []string{"http", "ping", "http", "/ping"}, []string{
		get[string](t, j, service, "port"), get[string](t, j, check, "port"), get[string](t, j, check, "type"), get[string](t, j, check, "path"),
	})

	cfg := j.configure(t, map[string]string{})
	require.Len(t, cfg.Checks, 1)
	require.Equal(t, get[string](t, j, service, "name"), cfg.Checks[0].Service)
	require.GreaterOrEqual(t, duration(t, j, task, "shutdown_delay"), 3*cfg.Checks[0].Interval)
	require.Greater(t, duration(t, j, task, "kill_timeout"), 10*time.Second)
	for _, vip := range cfg.VIPs {
		require.Equal(t, []string{cfg.Checks[0].Name}, vip.Require)
		require.Equal(t, config.NoneFitKeep, vip.WhenNoneFit)
	}
}

func TestDockerHasTwoCapabilities(t *testing.T) {
	j := load(t, "consul-vip.nomad.hcl")
	docker := block(t, j.task(t), "config")
	require.Equal(t, "host", get[string](t, j, docker, "network_mode"))
	require.Equal(t, []string{"all"}, get[[]string](t, j, docker, "cap_drop"))
	require.Equal(t, []string{"net_admin", "net_raw"}, get[[]string](t, j, docker, "cap_add"))
	require.NotContains(t, docker.Attributes, "command", "Docker would pass it to the entry point of the image")
}

// The agent must read the token from the file that Nomad writes.
func TestTokenFile(t *testing.T) {
	for _, file := range []string{"consul-vip-identity.nomad.hcl", "consul-vip-variables.nomad.hcl"} {
		cfg := load(t, file).configure(t, map[string]string{"NOMAD_SECRETS_DIR": "/secrets"})
		require.Equal(t, "/secrets/consul_token", cfg.Consul.TokenFile, file)
	}
	identity := load(t, "consul-vip-identity.nomad.hcl")
	require.Equal(t, "consul_default", get[string](t, identity, block(t, identity.task(t), "identity"), "name"))
}

// jobFile is a parsed job file and the scope in which Nomad evaluates it.
type jobFile struct {
	body *hclsyntax.Body
	eval *hcl.EvalContext
}

// load parses a job file. Its variables have their defaults, except for the addresses,
// which are two, and the image, which has no default.
func load(t *testing.T, path string) *jobFile {
	t.Helper()
	body := parse(t, path)
	vars := map[string]cty.Value{
		"image": cty.StringVal("registry.example.com/consul-vip:1.0.0"),
		"vips":  cty.ListVal([]cty.Value{cty.StringVal("10.77.0.100"), cty.StringVal("10.77.0.101")}),
	}
	for _, b := range body.Blocks {
		if b.Type != "variable" {
			continue
		}
		if _, set := vars[b.Labels[0]]; set {
			continue
		}
		value, diags := b.Body.Attributes["default"].Expr.Value(nil)
		require.False(t, diags.HasErrors(), "%v", diags)
		vars[b.Labels[0]] = value
	}
	return &jobFile{body: body, eval: &hcl.EvalContext{Variables: map[string]cty.Value{
		"var":            cty.ObjectVal(vars),
		"NOMAD_TASK_DIR": cty.StringVal("local"),
	}}}
}

func (j *jobFile) job(t *testing.T) *hclsyntax.Body { return block(t, j.body, "job") }

// group is the group of the agent, and task its task.
func (j *jobFile) group(t *testing.T) *hclsyntax.Body {
	return labelled(t, j.job(t), "group", "consul-vip")
}
func (j *jobFile) task(t *testing.T) *hclsyntax.Body { return block(t, j.group(t), "task") }

// restartsForEver requires that Nomad never gives up on a group.
func (j *jobFile) restartsForEver(t *testing.T, group *hclsyntax.Body) {
	t.Helper()
	restart := block(t, group, "restart")
	require.Equal(t, "delay", get[string](t, j, restart, "mode"))
	require.Less(t, get[int](t, j, restart, "attempts")*int(duration(t, j, restart, "delay")),
		int(duration(t, j, restart, "interval")), "otherwise Nomad refuses the job")
}

// template returns the template block of the configuration.
func (j *jobFile) template(t *testing.T) *hclsyntax.Body {
	t.Helper()
	for _, b := range j.task(t).Blocks {
		if b.Type == "template" && get[string](t, j, b.Body, "destination") == "local/consul-vip.hcl" {
			return b.Body
		}
	}
	require.FailNow(t, "no template of the configuration")
	return nil
}

// variable is an item of a Nomad variable.
type variable struct{ Value string }

// configure renders the configuration as Nomad does on a client with this environment,
// and parses the result.
func (j *jobFile) configure(t *testing.T, env map[string]string) *config.Config {
	t.Helper()
	tmpl, err := template.New("data").Funcs(template.FuncMap{
		"env": func(name string) string {
			if name == "NOMAD_JOB_NAME" {
				return "consul-vip"
			}
			return env[name]
		},
		"nomadVar": func(path string) map[string]variable {
			require.Equal(t, "nomad/jobs/consul-vip", path, "the job can read this variable")
			return map[string]variable{"vips": {"10.77.0.100,10.77.0.101"}}
		},
		"split": func(sep, s string) []string { return strings.Split(s, sep) },
	}).Parse(get[string](t, j, j.template(t), "data"))
	require.NoError(t, err)
	var src strings.Builder
	require.NoError(t, tmpl.Execute(&src, nil))
	cfg, err := config.Parse("local/consul-vip.hcl", []byte(src.String()))
	require.NoError(t, err, src.String())
	return cfg
}

func parse(t *testing.T, path string) *hclsyntax.Body {
	t.Helper()
	src, err := os.ReadFile(path)
	require.NoError(t, err)
	file, diags := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	require.False(t, diags.HasErrors(), "%v", diags)
	return file.Body.(*hclsyntax.Body)
}

// block returns the only block of that kind in body.
func block(t *testing.T, body *hclsyntax.Body, kind string) *hclsyntax.Body {
	t.Helper()
	return only(t, body, kind, func(*hclsyntax.Block) bool { return true })
}

// labelled returns the only block of that kind and with that label in body.
func labelled(t *testing.T, body *hclsyntax.Body, kind, label string) *hclsyntax.Body {
	t.Helper()
	return only(t, body, kind, func(b *hclsyntax.Block) bool { return slices.Contains(b.Labels, label) })
}

// only returns the only block of that kind in body that is wanted.
func only(t *testing.T, body *hclsyntax.Body, kind string, wanted func(*hclsyntax.Block) bool) *hclsyntax.Body {
	t.Helper()
	var found []*hclsyntax.Body
	for _, b := range body.Blocks {
		if b.Type == kind && wanted(b) {
			found = append(found, b.Body)
		}
	}
	require.Len(t, found, 1, "%s blocks", kind)
	return found[0]
}

// get evaluates an attribute as Nomad does.
func get[T any](t *testing.T, j *jobFile, body *hclsyntax.Body, name string) T {
	t.Helper()
	require.Contains(t, body.Attributes, name)
	var v T
	diags := gohcl.DecodeExpression(body.Attributes[name].Expr, j.eval, &v)
	require.False(t, diags.HasErrors(), "%v", diags)
	return v
}

func duration(t *testing.T, j *jobFile, body *hclsyntax.Body, name string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(get[string](t, j, body, name))
	require.NoError(t, err)
	return d
}
