package announce

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	lowMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	highMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

// TestTheHigherMACGivesUp holds for any order in which two announcers hear each other.
func TestTheHigherMACGivesUp(t *testing.T) {
	now := time.Now()
	require.True(t, rivals{}.claim(highMAC, lowMAC, now))
	require.False(t, rivals{}.claim(lowMAC, highMAC, now))
}

func TestARivalThatDoesNotGiveUp(t *testing.T) {
	r, now := rivals{}, time.Now()
	require.False(t, r.claim(lowMAC, highMAC, now))
	require.False(t, r.claim(lowMAC, highMAC, now.Add(yieldTime)))
	require.True(t, r.claim(lowMAC, highMAC, now.Add(yieldTime+1)))
}

// TestARivalIsForgotten has a rival that comes and goes: it never stays for long.
func TestARivalIsForgotten(t *testing.T) {
	r, now := rivals{}, time.Now()
	for range 100 {
		require.False(t, r.claim(lowMAC, highMAC, now))
		require.False(t, r.claim(lowMAC, highMAC, now.Add(time.Second)))
		now = now.Add(rivalMemory + time.Second + 1)
	}
}
