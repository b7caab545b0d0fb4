package announcer

import (
	"encoding/binary"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHeard(t *testing.T) {
	own := func(mac net.HardwareAddr) (bool, error) { return mac.String() == secondMAC.String(), nil }
	inBubble(t, Options{Own: own}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		require.True(t, w.LastHeard().IsZero())
		require.False(t, w.HeardSince(peerMAC, start.Add(-time.Hour)))
		for _, receive := range []func(){
			func() { sock.announce(otherVIP, peerMAC) },
			func() { sock.probe(vip, peerMAC) },
		} {
			time.Sleep(time.Second)
			at := time.Now()
			receive()
			synctest.Wait()
			require.True(t, w.HeardSince(peerMAC, at.Add(-1)))
			require.False(t, w.HeardSince(peerMAC, at))
			require.False(t, w.HeardSince(thirdMAC, start))
			require.False(t, w.HeardSince(nil, start))
			require.Equal(t, at, w.LastHeard())

			time.Sleep(time.Second)
			sock.announce(vip, ourMAC)
			sock.announce(vip, secondMAC)
			synctest.Wait()
			require.Equal(t, at, w.LastHeard(), "own frames tell nothing")
		}
	})
}

// After a flood of forged MACs nobody counts as silent.
func TestHeardForgets(t *testing.T) {
	var w Wire
	start := time.Now()
	mac := func(i int) net.HardwareAddr {
		return binary.BigEndian.AppendUint32(net.HardwareAddr{0x02, 0}, uint32(i))
	}
	for i := range 2 * maxHeard {
		w.heard.add(mac(i), start.Add(time.Duration(i)))
	}
	require.LessOrEqual(t, len(w.heard.last), maxHeard)
	require.True(t, w.HeardSince(peerMAC, start))
	require.False(t, w.HeardSince(peerMAC, start.Add(maxHeard)))
	require.True(t, w.HeardSince(mac(2*maxHeard-1), start.Add(maxHeard)))
}
