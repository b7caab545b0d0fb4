package agent

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestStar keeps the four rooms below the agent from knowing each other.
func TestStar(t *testing.T) {
	const module = "github.com/consul-vip/consul-vip/"
	root := filepath.Join("..", "..", "..", "..")
	for _, room := range []string{"config", "lease", "announcer", "netif"} {
		files, err := filepath.Glob(filepath.Join(root, room, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, i := range f.Imports {
				path, err := strconv.Unquote(i.Path.Value)
				require.NoError(t, err)
				if !strings.HasSuffix(file, "_test.go") || path != module+room {
					assert.False(t, strings.HasPrefix(path, module), "%s imports %s", file, path)
				}
			}
		}
	}
}
