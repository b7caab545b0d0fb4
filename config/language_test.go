package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"
)

// TestFullExampleIsFull checks that examples/full.hcl, the operators' reference, has every
// key of the language.
func TestFullExampleIsFull(t *testing.T) {
	src, err := os.ReadFile("../examples/full.hcl")
	require.NoError(t, err)
	file, diags := hclsyntax.ParseConfig(src, "full.hcl", hcl.InitialPos)
	require.False(t, diags.HasErrors(), "%v", diags)

	require.Equal(t, language(), keys("", file.Body.(*hclsyntax.Body)))
}

// TestEveryKeyHasAVariable checks that none is forgotten, and that operators can read of
// all in docs/configuration.md.
func TestEveryKeyHasAVariable(t *testing.T) {
	var want []string
	for path := range language() {
		switch {
		case strings.HasSuffix(path, "."), strings.HasPrefix(path, "check."), strings.HasPrefix(path, "hook."): // blocks, and those with a name
		case path == "vip.require": // a list
		case strings.HasPrefix(path, "vip.host_check."): // as at the top level
		default:
			want = append(want, "CONSUL_VIP_"+strings.ToUpper(strings.ReplaceAll(path, ".", "_")))
		}
	}
	want = append(want, VIPsVariable)
	var got, rows []string
	for _, v := range variables() {
		require.False(t, strings.HasPrefix(v.name, hookPrefix), v.name)
		got = append(got, v.name)
		rows = append(rows, row(v))
	}
	require.ElementsMatch(t, want, got)

	doc, err := os.ReadFile("../docs/configuration.md")
	require.NoError(t, err)
	require.Equal(t, rows, regexp.MustCompile("(?m)^\\| `CONSUL_VIP_.*$").FindAllString(string(doc), -1), "the table of variables")
}

// row is the line of a variable in the documentation.
func row(v variable) string {
	if v.path == nil {
		return "| `" + v.name + "` | an empty `vip` block for each address, if no file has one |"
	}
	key := v.key()
	for _, block := range slices.Backward(v.path[:len(v.path)-1]) {
		key = block + " { " + key + " }"
	}
	return "| `" + v.name + "` | `" + key + "` |"
}

// language returns all keys and blocks, with their paths. Those of blocks end with a dot.
func language() map[string]bool {
	known := make(map[string]bool)
	for path, raw := range map[string]any{
		"": rawConfig{}, "consul.": rawConsul{}, "vip.": rawVIP{}, "vip.announce.": rawAnnounce{},
		"host_check.": rawHostCheck{}, "check.": rawCheck{}, "hook.": rawHook{}, "vip.host_check.": rawHostCheck{},
	} {
		schema, _ := gohcl.ImpliedBodySchema(raw)
		for _, attribute := range schema.Attributes {
			known[path+attribute.Name] = true
		}
		for _, block := range schema.Blocks {
			known[path+block.Type+"."] = true
		}
	}
	return known
}

// keys returns the keys and blocks of a body, with their paths.
func keys(path string, body *hclsyntax.Body) map[string]bool {
	found := make(map[string]bool)
	for name := range body.Attributes {
		found[path+name] = true
	}
	for _, block := range body.Blocks {
		found[path+block.Type+"."] = true
		for key := range keys(path+block.Type+".", block.Body) {
			found[key] = true
		}
	}
	return found
}
