package command_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/command"
)

func TestRun(t *testing.T) {
	for name, tc := range map[string]struct {
		args   []string
		output string
		reason string
	}{
		"succeeds":       {[]string{"true"}, "", ""},
		"says something": {[]string{"echo", "a", "b"}, "a b", ""},
		"fails":          {[]string{"false"}, "", "exit status 1"},
		"says why":       {[]string{"sh", "-c", "echo; echo no disk >&2; echo more; exit 3"}, "no disk\nmore", "exit status 3: no disk"},
		"says too much":  {[]string{"sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; exit 3"}, strings.Repeat("x", 2048), "exit status 3: " + strings.Repeat("x", 200)},
		"says nonsense":  {[]string{"sh", "-c", "printf 'a\\033[1mb\\377'; exit 3"}, "a [1mb", "exit status 3: a [1mb"},
		"no such file":   {[]string{"/no/such/file"}, "", "fork/exec /no/such/file: no such file or directory"},
		"without shell":  {[]string{"true && false"}, "", `exec: "true && false": executable file not found in $PATH`},
		"leaves a child": {[]string{"sh", "-c", "sleep 1000 & exit 0"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := command.Run(t.Context(), tc.args, nil)
			require.Equal(t, tc.output, r.Output)
			if tc.reason == "" {
				require.NoError(t, r.Reason())
				return
			}
			require.EqualError(t, r.Reason(), tc.reason)
		})
	}
}

func TestEnvironment(t *testing.T) {
	r := command.Run(t.Context(), []string{"/usr/bin/env"}, []string{"A=b", "C=d e"})
	require.NoError(t, r.Err)
	require.Equal(t, "A=b\nC=d e", r.Output)
}

// A program that hangs is killed with its children.
func TestHangs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	late := errors.New("no result within 500ms")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 500*time.Millisecond, late)
	defer cancel()
	began := time.Now()
	r := command.Run(ctx, []string{"sh", "-c", "sleep 1000 & echo $$ $! >" + file + "; wait"}, nil)
	require.ErrorIs(t, r.Err, late)
	require.Less(t, time.Since(began), 5*time.Second)
	pids, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, text := range strings.Fields(string(pids)) {
		pid, err := strconv.Atoi(text)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return gone(pid) }, 5*time.Second, 10*time.Millisecond, "process %d", pid)
	}
}

// gone reports whether a process does not run any more: it may be a zombie, of which its new
// parent takes no notice.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
