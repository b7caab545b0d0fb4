package lab

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOwner(t *testing.T) {
	hosts := newHosts(t)
	h1, h2 := hosts.Servers[0], hosts.Servers[1]
	c, _ := newClient(t, hosts.Client)
	_, err := hosts.Owner(vip, c)
	require.ErrorContains(t, err, "bound on 0 hosts")

	require.NoError(t, h1.AddAddress("eth0", vipNet))
	owner, err := hosts.AwaitOwner(t.Context(), vip, c, nil)
	require.NoError(t, err)
	require.Equal(t, h1, owner)
	bound, err := hosts.Bound()
	require.NoError(t, err)
	require.Equal(t, map[netip.Addr][]*Host{vip: {h1}}, bound)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = hosts.AwaitOwner(ctx, vip, c, h1)
	require.ErrorIs(t, err, context.DeadlineExceeded, "h1 is the old owner")

	require.NoError(t, h2.AddAddress("eth0", vipNet))
	_, err = hosts.Owner(vip, c)
	require.ErrorContains(t, err, "bound on 2 hosts: h1, h2")
}

func TestWriteFile(t *testing.T) {
	h := &Host{Name: "h1", Dir: t.TempDir()}
	for _, text := range []string{"one", "two"} {
		path, err := h.WriteFile("some/file.hcl", []byte(text))
		require.NoError(t, err)
		require.Equal(t, filepath.Join(h.Dir, "some", "file.hcl"), path)
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	files, err := os.ReadDir(filepath.Join(h.Dir, "some"))
	require.NoError(t, err)
	require.Len(t, files, 1)
}
