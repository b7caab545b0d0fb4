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

func TestVersionsAreTheOnesRequired(t *testing.T) {
	root, err := ModuleRoot()
	require.NoError(t, err)
	for _, p := range []Program{Consul, Nomad} {
		mod, err := os.ReadFile(filepath.Join(root, p.tool(), "go.mod"))
		require.NoError(t, err)
		require.Regexp(t, `(?m)^tool `+p.pkg()+`$`, string(mod))
		require.Regexp(t, `(?m)^\t`+p.pkg()+` v`+p.version()+`\b`, string(mod))
	}
}

func TestFindProgram(t *testing.T) {
	executable := func(name string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755))
		return path
	}
	empty := t.TempDir()
	for p, version := range map[Program]string{Consul: ConsulVersion, Nomad: NomadVersion} {
		named, installed := executable("mine"), executable(string(p))
		cached := executable("consul-vip/" + string(p) + "-" + version)
		for name, tt := range map[string]struct{ env, path, cache, want string }{
			p.Env() + " first": {named, filepath.Dir(installed), filepath.Dir(filepath.Dir(cached)), named},
			"then PATH":        {"", filepath.Dir(installed), filepath.Dir(filepath.Dir(cached)), installed},
			"then the cache":   {"", empty, filepath.Dir(filepath.Dir(cached)), cached},
		} {
			t.Run(string(p)+" "+name, func(t *testing.T) {
				t.Setenv(p.Env(), tt.env)
				t.Setenv("PATH", tt.path)
				t.Setenv("XDG_CACHE_HOME", tt.cache)
				got, err := p.Find()
				require.NoError(t, err)
				require.Equal(t, tt.want, got)
				got, err = p.Provide(t.Context(), os.Stderr)
				require.NoError(t, err)
				require.Equal(t, tt.want, got)
			})
		}
	}

	t.Run("nowhere", func(t *testing.T) {
		t.Setenv("CONSUL_BIN", "")
		t.Setenv("PATH", empty)
		t.Setenv("XDG_CACHE_HOME", empty)
		_, err := Consul.Find()
		require.ErrorIs(t, err, ErrNotFound)
	})
	t.Run("a wrong NOMAD_BIN is an error", func(t *testing.T) {
		t.Setenv("NOMAD_BIN", filepath.Join(empty, "nomad"))
		_, err := Nomad.Provide(t.Context(), os.Stderr)
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

func TestOnlyOneBuilds(t *testing.T) {
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

func TestReportProgressSaysHowLongItTook(t *testing.T) {
	var log bytes.Buffer
	reportProgress(&log)()
	require.Contains(t, log.String(), "ended after 0s")
}
