package agent

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/consul-vip/consul-vip/"

// leaves are the packages that every room may import. They import none of ours.
var leaves = []string{"internal/latest", "internal/failurelog"}

// rooms are the packages below the agent, and what else of ours each may import.
var rooms = map[string][]string{
	"config":    nil,
	"announcer": nil,
	"netif":     nil,
	"lease":     {"lease/state", "lease/consul"},

	"lease/state":         nil,
	"lease/consul":        {"lease/state"},
	"lease/operator":      {"lease/state", "lease/consul"},
	"internal/latest":     nil,
	"internal/failurelog": nil,
	"internal/simconsul":  nil,
	"internal/cloudapi":   nil,
}

// forTests is what the tests of a room may import as well.
var forTests = map[string][]string{
	"lease":          {"internal/simconsul", "lease/operator"},
	"lease/consul":   {"internal/simconsul"},
	"lease/operator": {"internal/simconsul"},
}

// TestStar keeps the rooms below the agent from knowing each other.
func TestStar(t *testing.T) {
	root := filepath.Join("..", "..", "..", "..")
	for room, may := range rooms {
		if !slices.Contains(leaves, room) {
			may = append(may, leaves...)
		}
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(room), "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files, room)
		for _, file := range files {
			for _, imported := range importsOfOurs(t, file) {
				test := strings.HasSuffix(file, "_test.go") && (imported == room || slices.Contains(forTests[room], imported))
				assert.True(t, test || slices.Contains(may, imported), "%s imports %s", file, imported)
			}
		}
	}
}

// TestEveryRoomIsInTheStar finds a package that is missing from rooms.
func TestEveryRoomIsInTheStar(t *testing.T) {
	root := filepath.Join("..", "..", "..", "..")
	for _, top := range []string{"config", "announcer", "netif", "lease", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || path.Ext(file) != ".go" {
				return err
			}
			room, err := filepath.Rel(root, filepath.Dir(file))
			assert.Contains(t, rooms, filepath.ToSlash(room))
			return err
		})
		require.NoError(t, err)
	}
}

// importsOfOurs lists the packages of this module that a file imports, without
// the module's path.
func importsOfOurs(t *testing.T, file string) (ours []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	require.NoError(t, err)
	for _, i := range f.Imports {
		imported, err := strconv.Unquote(i.Path.Value)
		require.NoError(t, err)
		if room, ok := strings.CutPrefix(imported, module); ok {
			ours = append(ours, room)
		}
	}
	return ours
}
