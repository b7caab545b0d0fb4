package config

import (
	"os"
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
	require.Equal(t, known, keys("", file.Body.(*hclsyntax.Body)))
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
