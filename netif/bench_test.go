package netif

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newBusyHost returns a host with some fifty links and a hundred addresses of ours, and
// the index of eth0.
func newBusyHost(b *testing.B) (*Host, int) {
	b.Helper()
	newNetns(b)
	eth0 := newVeth(b, "eth0", "peer0")
	for i := range 24 {
		newVeth(b, fmt.Sprintf("veth%d", i), fmt.Sprintf("peer%d", i+1))
	}
	h := newHost(b)
	for i := range 100 {
		_, err := h.Bind(eth0, prefix(fmt.Sprintf("10.77.1.%d/32", i)), time.Hour)
		require.NoError(b, err)
	}
	return h, eth0
}

func BenchmarkBind(b *testing.B) {
	h, eth0 := newBusyHost(b)
	for b.Loop() {
		a, err := h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, a.Unbind())
		b.StartTimer()
	}
}

func BenchmarkRefresh(b *testing.B) {
	h, eth0 := newBusyHost(b)
	a, err := h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
	require.NoError(b, err)
	for b.Loop() {
		_, err := a.Refresh(time.Minute)
		require.NoError(b, err)
	}
}

func BenchmarkUnbind(b *testing.B) {
	h, eth0 := newBusyHost(b)
	for b.Loop() {
		b.StopTimer()
		a, err := h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
		require.NoError(b, err)
		b.StartTimer()
		require.NoError(b, a.Unbind())
	}
}

func BenchmarkOwn(b *testing.B) {
	h, _ := newBusyHost(b)
	for b.Loop() {
		is, err := h.Own(parseMAC(b, "02:00:00:00:00:99"))
		require.NoError(b, err)
		require.False(b, is)
	}
}

func BenchmarkIdentity(b *testing.B) {
	h, eth0 := newBusyHost(b)
	for b.Loop() {
		_, err := h.Identity(eth0)
		require.NoError(b, err)
	}
}
