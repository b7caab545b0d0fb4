package announcer

import (
	"math"
	"net"
	"sync"
	"time"
)

const (
	// lossMemory is how long samples of a link's loss count, in seconds.
	lossMemory = 60

	// minSamples are needed to know the loss of a link. Until then it counts as unknownLoss.
	minSamples  = 100
	unknownLoss = 0.1

	// maxLoss bounds the number of rounds: a host that did not answer at all would
	// otherwise need infinitely many.
	maxLoss = 0.9

	// falseProof is the probability, as a power of ten, that all answers for an address
	// got lost although its host still has it.
	falseProof = -9

	// minRounds are needed on a link without any loss.
	minRounds = 3
)

// losses counts the answers that did not come in the last minute, by MAC. The zero
// value is ready to use. It is safe for concurrent use.
type losses struct {
	mu    sync.Mutex // guards all following fields
	began time.Time  // of the first sample
	byMAC map[mac48]*lossHistory
}

// mac48 is a MAC as the key of a map.
type mac48 [macLen]byte

// lossHistory holds the samples of one second in each element.
type lossHistory [lossMemory]struct {
	second          int64
	samples, misses int
}

// add records whether one frame to mac had no answer.
func (l *losses) add(mac net.HardwareAddr, missed bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byMAC == nil {
		l.began, l.byMAC = now, map[mac48]*lossHistory{}
	}
	h := l.byMAC[mac48(mac)]
	if h == nil {
		h = &lossHistory{}
		l.byMAC[mac48(mac)] = h
	}
	second := int64(now.Sub(l.began) / time.Second)
	s := &h[second%lossMemory]
	if s.second != second {
		s.second, s.samples, s.misses = second, 0, 0
	}
	s.samples++
	if missed {
		s.misses++
	}
}

// loss returns the probability that a frame to mac has no answer, rather too high than
// too low.
func (l *losses) loss(mac net.HardwareAddr, now time.Time) float64 {
	samples, misses := l.count(mac, now)
	if samples < minSamples {
		return unknownLoss
	}
	// After no miss in n samples the loss is below 3/n, with 95 % confidence.
	return float64(misses+3) / float64(samples)
}

// count returns the samples of mac, and how many of them were missed.
func (l *losses) count(mac net.HardwareAddr, now time.Time) (samples, misses int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.byMAC[mac48(mac)]
	if h == nil {
		return 0, 0
	}
	second := int64(now.Sub(l.began) / time.Second)
	for _, s := range h {
		if second-s.second < lossMemory {
			samples, misses = samples+s.samples, misses+s.misses
		}
	}
	return samples, misses
}

// proofRounds returns how many answers in a row must be missing so that they have all
// got lost with a probability of 10^falseProof only.
func proofRounds(loss float64) int {
	const rounding = 1e-9
	return max(minRounds, int(math.Ceil(falseProof/math.Log10(min(loss, maxLoss))-rounding)))
}
