package config

import (
	"os"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// evaluation is the scope of all expressions: one function, no variables.
var evaluation = &hcl.EvalContext{Functions: map[string]function.Function{"env": env}}

// env is a function of the language. env("NAME") returns an environment variable;
// env("NAME", "default") returns the default if the variable is missing. An empty
// variable counts as missing, because supervisors and job files set a variable to ""
// when they have no value for it.
var env = function.New(&function.Spec{
	Params:   []function.Parameter{{Name: "name", Type: cty.String}},
	VarParam: &function.Parameter{Name: "default", Type: cty.String},
	Type:     function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		name := args[0].AsString()
		if len(args) > 2 {
			return cty.NilVal, function.NewArgErrorf(2, "env takes a name and at most one default")
		}
		if value := os.Getenv(name); value != "" {
			return cty.StringVal(value), nil
		}
		if len(args) == 1 {
			return cty.NilVal, function.NewArgErrorf(0, "the environment variable %s is not set; a second argument would be its default", name)
		}
		return args[1], nil
	},
})
