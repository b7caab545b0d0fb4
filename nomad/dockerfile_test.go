package nomad_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The Dockerfile must build the binary as the Makefile does, and the image must start it.
func TestDockerfile(t *testing.T) {
	dockerfile, makefile, module := read(t, "../Dockerfile"), read(t, "../Makefile"), read(t, "../go.mod")
	bin := first(t, `(?m)^BIN +:= (\S+)$`, makefile)
	require.Regexp(t, `(?m)^build:.*\n\tCGO_ENABLED=0 `, makefile, "a scratch image has no libraries")
	workdir := first(t, `(?m)^WORKDIR (\S+)$`, dockerfile)
	copied := first(t, `(?m)^COPY --from=build `+workdir+`/`+bin+` (\S+)$`, dockerfile)
	require.Equal(t, copied, first(t, `(?m)^ENTRYPOINT \["(\S+)"\]$`, dockerfile))
	require.Contains(t, first(t, `(?m)^go (\S+)$`, module), first(t, `(?m)^FROM golang:(\S+) AS build$`, dockerfile))
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// first returns the text that the group of the expression matches first.
func first(t *testing.T, expr, text string) string {
	t.Helper()
	found := regexp.MustCompile(expr).FindStringSubmatch(text)
	require.Len(t, found, 2, expr)
	return found[1]
}
