package announcer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProofRounds(t *testing.T) {
	for _, tc := range []struct {
		samples, misses, rounds int
	}{
		{0, 0, 9},     // unknown: 0.1
		{99, 0, 9},    // not enough samples
		{100, 0, 6},   // 0.03
		{2400, 0, 4},  // a minute at 25 ms, 0.00125
		{6000, 0, 3},  // at 10 ms, 0.0005
		{2400, 12, 5}, // 0.00625
		{2400, 240, 10},
		{2400, 1200, 31},
		{2400, 2400, 197}, // at most 0.9
	} {
		var l losses
		now := time.Now()
		for i := range tc.samples {
			l.add(peerMAC, i < tc.misses, now)
		}
		require.Equal(t, tc.rounds, proofRounds(l.loss(peerMAC, now)), "%+v", tc)
		require.InDelta(t, unknownLoss, l.loss(thirdMAC, now), 0)
	}
}

func TestLossesOfTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l losses
		sample := func(misses, samples int) {
			for i := range samples {
				l.add(peerMAC, i < misses, time.Now())
			}
		}
		sample(500, 500)
		for range 59 {
			time.Sleep(time.Second)
			sample(0, 10)
		}
		require.InDelta(t, 503.0/1090, l.loss(peerMAC, time.Now()), 1e-9)
		time.Sleep(time.Second)
		require.InDelta(t, 3.0/590, l.loss(peerMAC, time.Now()), 1e-9)
		sample(1, 10)
		require.InDelta(t, 4.0/600, l.loss(peerMAC, time.Now()), 1e-9)
		time.Sleep(time.Hour)
		require.InDelta(t, unknownLoss, l.loss(peerMAC, time.Now()), 0)
	})
}
