// Package nomad_test keeps the job files working.
package nomad_test

import (
	"os"
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

// Both jobs must survive a lost lock, stop in time, update host by host and
// give the agent a configuration that it accepts.
func TestJobs(t *testing.T) {
	for file, driver := range map[string]string{
		"consul-vip.nomad.hcl":          "docker",
		"consul-vip-raw-exec.nomad.hcl": "raw_exec",
	} {
		t.Run(file, func(t *testing.T) {
			job := block(t, parse(t, file), "job")
			group := block(t, job, "group")
			task := block(t, group, "task")

			require.Equal(t, "system", get[string](t, job, "type"))
			require.Equal(t, "delay", get[string](t, block(t, group, "restart"), "mode"))
			require.Equal(t, 1, get[int](t, block(t, job, "update"), "max_parallel"))
			require.Equal(t, driver, get[string](t, task, "driver"))
			timeout, err := time.ParseDuration(get[string](t, task, "kill_timeout"))
			require.NoError(t, err)
			require.GreaterOrEqual(t, timeout, 5*time.Second)

			rendered := block(t, task, "template")
			require.Equal(t, "restart", get[string](t, rendered, "change_mode"))
			require.Equal(t, "local/consul-vip.hcl", get[string](t, rendered, "destination"))
			args := get[[]string](t, block(t, task, "config"), "args")
			require.Equal(t, []string{"agent", "-config=local/consul-vip.hcl"}, args)

			data := get[string](t, rendered, "data")
			require.Equal(t, 100, configure(t, data, "").VIPs[0].Priority)
			require.Equal(t, 10, configure(t, data, "10").VIPs[0].Priority)
		})
	}
}

func TestDockerHasTwoCapabilities(t *testing.T) {
	job := block(t, parse(t, "consul-vip.nomad.hcl"), "job")
	docker := block(t, block(t, block(t, job, "group"), "task"), "config")
	require.Equal(t, "host", get[string](t, docker, "network_mode"))
	require.Equal(t, []string{"all"}, get[[]string](t, docker, "cap_drop"))
	require.Equal(t, []string{"net_admin", "net_raw"}, get[[]string](t, docker, "cap_add"))
}

// configure renders data as Nomad would on a client whose metadata has this
// priority, and reads the result.
func configure(t *testing.T, data, priority string) *config.Config {
	t.Helper()
	tmpl, err := template.New("data").Funcs(template.FuncMap{"env": func(name string) string {
		require.Equal(t, "meta.vip_priority", name)
		return priority
	}}).Parse(data)
	require.NoError(t, err)
	var src strings.Builder
	require.NoError(t, tmpl.Execute(&src, nil))
	cfg, err := config.Parse("local/consul-vip.hcl", []byte(src.String()))
	require.NoError(t, err)
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
	var found []*hclsyntax.Body
	for _, b := range body.Blocks {
		if b.Type == kind {
			found = append(found, b.Body)
		}
	}
	require.Len(t, found, 1, "%s blocks", kind)
	return found[0]
}

// get evaluates an attribute with the variables that Nomad knows.
func get[T any](t *testing.T, body *hclsyntax.Body, name string) T {
	t.Helper()
	require.Contains(t, body.Attributes, name)
	var v T
	diags := gohcl.DecodeExpression(body.Attributes[name].Expr, &hcl.EvalContext{Variables: map[string]cty.Value{
		"NOMAD_TASK_DIR": cty.StringVal("local"),
	}}, &v)
	require.False(t, diags.HasErrors(), "%v", diags)
	return v
}
