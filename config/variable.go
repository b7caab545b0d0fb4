package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

const (
	// VIPsVariable is the environment variable that lists addresses, with commas between
	// them. Each is as an empty vip block, if no file has a vip block.
	VIPsVariable = variablePrefix + "VIPS"

	variablePrefix = "CONSUL_VIP_"
	// hookPrefix begins the variables that a hook's command gets. They are no settings:
	// a hook may start consul-vip.
	hookPrefix = variablePrefix + "HOOK_"
)

// environment holds the variables that can set keys, with their texts. An empty variable
// counts as missing, as it does for env. A nil environment is empty.
type environment map[string]string

// newEnvironment picks the settings of "NAME=value" entries. As in the process's own
// environment, the first of several entries counts.
func newEnvironment(environ []string) environment {
	e := environment{}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		_, twice := e[name]
		if text != "" && !twice && strings.HasPrefix(name, variablePrefix) && !strings.HasPrefix(name, hookPrefix) {
			e[name] = text
		}
	}
	return e
}

// complete returns raw, which is a block of the language, with the keys from the
// environment that it leaves out. The path of the top level is empty, and that of an
// announce block is "vip", "announce".
func complete[R any](e environment, raw R, path ...string) R {
	if len(e) == 0 {
		return raw
	}
	block := reflect.ValueOf(&raw).Elem()
	for _, f := range fields(block.Type()) {
		name := variableName(append(slices.Clip(path), f.key)...)
		if text, ok := e[name]; ok && !f.block && !isSet(block.Field(f.index).Interface().(*hcl.Attribute)) {
			block.Field(f.index).Set(reflect.ValueOf(attribute(name, f.key, text)))
		}
	}
	return raw
}

// attribute is a key with the text of a variable. The text becomes a number or a bool where
// the key needs one, as it does in a file.
func attribute(variable, key, text string) *hcl.Attribute {
	at := variableRange(variable)
	return &hcl.Attribute{Name: key, Expr: hcl.StaticExpr(cty.StringVal(text), at), Range: at, NameRange: at}
}

// vips are the vip blocks for the list of addresses.
func (e environment) vips() (blocks []rawVIP) {
	list, ok := e[VIPsVariable]
	if !ok {
		return nil
	}
	for i, text := range strings.Split(list, ",") {
		at := variableRange(VIPsVariable)
		at.Start.Byte = i // for the order of the problems
		blocks = append(blocks, rawVIP{Address: strings.TrimSpace(text), AddressRange: at})
	}
	return blocks
}

// unknown reports the variables that set nothing. The texts are not shown: one may be an
// ACL token.
func (e environment) unknown() (diags hcl.Diagnostics) {
	known := variables()
	for _, name := range slices.Sorted(maps.Keys(e)) {
		if slices.ContainsFunc(known, func(v variable) bool { return v.name == name }) {
			continue
		}
		at := variableRange(name)
		diags = append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagError,
			Summary:  "Unknown variable",
			Detail:   "No setting has this name." + likely(name, known),
			Subject:  &at,
		})
	}
	return diags
}

// likely suggests the variable that name was meant to be: one that differs in one or two
// letters, or whose block was left out, such as CONSUL_VIP_INTERFACE. A token has a variable
// of Consul's.
func likely(name string, known []variable) string {
	best, least := "", 3
	for _, v := range known {
		key := variableName(v.key())
		for _, d := range []int{
			levenshtein.Distance(name, v.name, nil),
			levenshtein.Distance(name, key, nil),
			levenshtein.Distance(withoutVIP(name), withoutVIP(v.name), nil),
		} {
			if d < least {
				best, least = v.name, d
			}
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf(" Did you mean %s?", best)
	case strings.HasSuffix(name, "_TOKEN"):
		return " Consul's variable for an ACL token is CONSUL_HTTP_TOKEN."
	}
	return ""
}

// withoutVIP returns the name of a variable without the block vip.
func withoutVIP(name string) string {
	return variablePrefix + strings.TrimPrefix(strings.TrimPrefix(name, variablePrefix), "VIP_")
}

// variable is an environment variable that sets a key.
type variable struct {
	name string
	path []string // of the key: its blocks, and itself; nil for the list of addresses
}

func (v variable) key() string {
	if v.path == nil {
		return "vips"
	}
	return v.path[len(v.path)-1]
}

// variables returns all variables, in the order of the language.
func variables() []variable {
	return append([]variable{{name: VIPsVariable}}, variablesOf(reflect.TypeFor[rawConfig]())...)
}

func variablesOf(block reflect.Type, path ...string) (list []variable) {
	for _, f := range fields(block) {
		path := append(slices.Clip(path), f.key)
		if f.block {
			list = append(list, variablesOf(block.Field(f.index).Type.Elem(), path...)...)
			continue
		}
		list = append(list, variable{variableName(path...), path})
	}
	return list
}

// field is a field of a block's type: a key, or a block inside.
type field struct {
	index int
	key   string
	block bool
}

// fields returns the fields that variables can set. The tag env:"-" excludes one.
func fields(block reflect.Type) (list []field) {
	for i := range block.NumField() {
		tag := block.Field(i).Tag
		key, kind, _ := strings.Cut(tag.Get("hcl"), ",")
		if tag.Get("env") != "-" && (kind == "" || kind == "block") { // otherwise a label or a position
			list = append(list, field{i, key, kind == "block"})
		}
	}
	return list
}

// variableName is the name of the variable for a key.
func variableName(path ...string) string {
	return variablePrefix + strings.ToUpper(strings.Join(path, "_"))
}

// variableRange is the position of a problem with a variable. Files begin with line 1.
func variableRange(name string) hcl.Range { return hcl.Range{Filename: name} }

func isVariable(r hcl.Range) bool { return r.Start.Line == 0 }
