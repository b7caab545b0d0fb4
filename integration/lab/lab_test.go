package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	vip    = netip.MustParseAddr("10.77.1.1")
	vipNet = netip.PrefixFrom(vip, 32)
)

func TestMain(m *testing.M) {
	if os.Getenv("CONSUL_VIP_INTEGRATION") != "" {
		if err := Enter(); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// newLab returns a lab with the usual cast, without Consul.
func newLab(t *testing.T) Hosts {
	t.Helper()
	l, err := New(t.TempDir())
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("needs root; as an ordinary user, set CONSUL_VIP_INTEGRATION=1")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	cast, err := l.AddHosts()
	require.NoError(t, err)
	return cast
}

// eventually fails the test if cond still objects after ten seconds.
func eventually(t *testing.T, cond func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, Await(ctx, cond))
}

// answered returns a condition: that the client is answered by this host.
func answered(c *Client, host string) func() error {
	return func() error {
		if by := c.AnsweredBy(); by != host {
			return fmt.Errorf("answered by %q, not by %q", by, host)
		}
		return nil
	}
}
