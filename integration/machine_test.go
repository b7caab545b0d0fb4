package integration

import (
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// machineInterval is how often a machine looks at its clock.
	machineInterval = 50 * time.Millisecond
	// punctual is how late it may be without a stall.
	punctual = 30 * time.Millisecond
)

// machine measures for how long the machine of the tests stalls: either a process
// gets no CPU, or the kernel does not change addresses. It has one lock for the
// networks of all namespaces, so the removal of some other lab can block every
// "ip address" for seconds, and the removal of expired addresses with it.
type machine struct {
	quit chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex // guards all following fields
	total time.Duration
	began time.Time // of the look that is under way
}

// newMachine waits until the machine has not stalled for a moment, and starts to
// measure, until stop. It needs a host to change something on.
func newMachine(h *lab.Host) *machine {
	awaitCalm(h)
	m := &machine{quit: make(chan struct{}), began: time.Now()}
	m.done.Go(func() {
		for {
			select {
			case <-time.After(machineInterval):
			case <-m.quit:
				return
			}
			_ = h.SetLink("lo", true) // changes nothing, but takes the lock
			m.mu.Lock()
			m.total += m.late()
			m.began = time.Now()
			m.mu.Unlock()
		}
	})
	return m
}

// late is for how long the look that is under way has stalled. m.mu must be held.
func (m *machine) late() time.Duration {
	if late := time.Since(m.began) - machineInterval; late > punctual {
		return late
	}
	return 0
}

// stalled returns for how long the machine has stalled so far. It is safe for
// concurrent use.
func (m *machine) stalled() time.Duration {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total + m.late()
}

// stop ends the measurement.
func (m *machine) stop() {
	close(m.quit)
	m.done.Wait()
}

// awaitCalm waits until the kernel changes addresses without delay: a lab that has
// just been closed may still delay that. It gives up soon, for the tests may pass
// all the same.
func awaitCalm(h *lab.Host) {
	for began, prompt := time.Now(), 0; prompt < 10 && time.Since(began) < soon; {
		time.Sleep(machineInterval / 5)
		before := time.Now()
		_ = h.SetLink("lo", true)
		prompt++
		if time.Since(before) > punctual {
			prompt = 0
		}
	}
}
