package lab

import (
	"context"
	"fmt"
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
	if Wanted() == nil {
		if err := Enter(); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// newHosts returns the hosts of a lab without Consul. It skips the test if tests in a
// lab are not to run.
func newHosts(t *testing.T) Hosts {
	t.Helper()
	if err := Wanted(); err != nil {
		t.Skip(err)
	}
	s, err := newSegment(t.TempDir(), ClusterConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	hosts, err := s.addHosts()
	require.NoError(t, err)
	return hosts
}

// soon is the time for what takes a moment, on a machine that may be busy.
const soon = 30 * time.Second

// eventually fails the test if cond still returns an error after some time.
func eventually(t *testing.T, cond func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	require.NoError(t, Await(ctx, cond))
}

// answered returns a condition: that this host answers the client.
func answered(c *Client, h *Host) func() error {
	return func() error { return c.CheckAnsweredBy(h) }
}

// unanswered returns a condition: that no host has answered the client of late.
func unanswered(c *Client) func() error {
	return func() error {
		if by := c.AnsweredBy(); by != "" {
			return fmt.Errorf("%q answers the client", by)
		}
		return nil
	}
}

// atLeast returns a condition: that a count has reached n.
func atLeast(n int, count func() int) func() error {
	return func() error {
		if got := count(); got < n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	}
}

// answers returns the number of answers or claims in these periods.
func answers(reigns []Reign) int {
	n := 0
	for _, r := range reigns {
		n += r.Answers
	}
	return n
}
