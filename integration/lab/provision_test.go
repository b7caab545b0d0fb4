package lab

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConsulVersionIsTheOneRequired(t *testing.T) {
	root, err := ModuleRoot()
	require.NoError(t, err)
	mod, err := os.ReadFile(filepath.Join(root, consulTool, "go.mod"))
	require.NoError(t, err)
	require.Contains(t, string(mod), consulModule+" v"+ConsulVersion)
}

func TestFindConsul(t *testing.T) {
	executable := func(name string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755))
		return path
	}
	named, installed, cached := executable("mine"), executable("consul"), executable("consul-vip/consul-"+ConsulVersion)
	empty := t.TempDir()

	for name, tt := range map[string]struct{ env, path, cache, want string }{
		"CONSUL_BIN first": {named, filepath.Dir(installed), filepath.Dir(filepath.Dir(cached)), named},
		"then PATH":        {"", filepath.Dir(installed), filepath.Dir(filepath.Dir(cached)), installed},
		"then the cache":   {"", empty, filepath.Dir(filepath.Dir(cached)), cached},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CONSUL_BIN", tt.env)
			t.Setenv("PATH", tt.path)
			t.Setenv("XDG_CACHE_HOME", tt.cache)
			got, err := FindConsul()
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
			got, err = ProvideConsul(t.Context(), os.Stderr)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}

	t.Run("nowhere", func(t *testing.T) {
		t.Setenv("CONSUL_BIN", "")
		t.Setenv("PATH", empty)
		t.Setenv("XDG_CACHE_HOME", empty)
		_, err := FindConsul()
		require.ErrorIs(t, err, ErrNoConsul)
	})
	t.Run("a wrong CONSUL_BIN is an error", func(t *testing.T) {
		t.Setenv("CONSUL_BIN", filepath.Join(empty, "consul"))
		_, err := ProvideConsul(t.Context(), os.Stderr)
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

func TestOnlyOneBuildsConsul(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = lockFile(ctx, path)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	unlock()
	unlock, err = lockFile(t.Context(), path)
	require.NoError(t, err)
	unlock()
}

func TestStillAliveSaysWhenItEnded(t *testing.T) {
	var log bytes.Buffer
	stillAlive(&log)()
	require.Contains(t, log.String(), "ended after 0s")
}
