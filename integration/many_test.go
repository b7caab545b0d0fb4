package integration

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// maxConnections is how many connections an instance may have to its agent.
const maxConnections = 5

func TestHundred(t *testing.T) {
	var vips []netip.Addr
	for i := range 100 {
		vips = append(vips, netip.AddrFrom4([4]byte{10, 77, 8, byte(1 + i)}))
	}
	s := newSceneOf(t, sharedWorld(t), 200*time.Millisecond, vips...)
	began := time.Now()
	var procs []*lab.Process
	for _, h := range s.Servers {
		procs = append(procs, s.start(h, config{}))
	}
	up := func() error {
		for _, p := range procs {
			if n, err := p.Connections(lab.ConsulPort); p.Running() && err == nil {
				require.LessOrEqual(t, n, maxConnections, "connections of %s", p.Host.Name)
			}
		}
		return s.allBound()
	}
	s.eventually(soon, up)
	t.Logf("all up after %v", time.Since(began))
	s.measure()

	for _, p := range procs[:2] {
		began = time.Now()
		require.NoError(t, p.Signal(syscall.SIGTERM))
		s.exits(p, 0, 4*time.Second)
		s.eventually(soon, up)
		t.Logf("all moved %v after SIGTERM to %s", time.Since(began), p.Host.Name)
		for vip, hosts := range s.bound(t.Context()) {
			require.NotEqual(t, p.Host, hosts[0], "%s", vip)
		}
	}
	for _, vip := range vips {
		_, r, err := s.record(vip)
		require.NoError(t, err)
		require.Equal(t, "held", r.State)
		require.Equal(t, procs[2].Host.Name, r.Node)
	}
}

// allBound objects unless every address is bound on exactly one host.
func (s *scene) allBound() error {
	bound := s.bound(s.t.Context())
	for _, vip := range s.vips {
		if n := len(bound[vip]); n != 1 {
			return fmt.Errorf("%s is bound on %d hosts", vip, n)
		}
	}
	return nil
}
