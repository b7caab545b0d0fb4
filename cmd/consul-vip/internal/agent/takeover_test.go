package agent

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
	"github.com/consul-vip/consul-vip/netif"
)

var (
	bindsAndReleases = []string{"bind", "bound", "announce", "stop announcing", "unbind"}
	exchange         = []string{"send ready to 02:00:00:00:00:02", "await released from 02:00:00:00:00:02"}
)

// with returns a list of calls.
func with(parts ...any) (calls []string) {
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			calls = append(calls, part)
		case []string:
			calls = append(calls, part...)
		}
	}
	return calls
}

func TestTakeoverProbesWhatMayAnswer(t *testing.T) {
	both := tenure{previous: crashed.previous, before: []leasestate.Before{h2, h3}}
	itself := tenure{before: []leasestate.Before{{Node: "h1", Owner: Owner{MAC: ownMAC.String()}.encode(), TTL: "15s"}}}
	for name, test := range map[string]struct {
		facts tenure
		calls []string
	}{
		"nobody":                 {free, nil},
		"one":                    {crashed, []string{"prove 02:00:00:00:00:02 for 15s"}},
		"two: the longer TTL":    {both, []string{"prove 02:00:00:00:00:02,02:00:00:00:00:03 for 20s"}},
		"somebody unknown":       {unknown, []string{"prove  for 40s"}},
		"itself, says a record":  {itself, []string{"prove  for 15s"}},
		"stopped before, h1 too": {tenure{previous: leasestate.Record{State: leasestate.RecordHandover, From: "h2", At: &time.Time{}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				assert.Equal(t, outcome{how: holdEnded}, f.serve(t, test.facts, stopAtOnce))
				assert.Equal(t, with(test.calls, bindsAndReleases), f.recorded())
			})
		})
	}
}

func TestTakeoverAfterATransfer(t *testing.T) {
	both := transferred
	both.before = []leasestate.Before{h2, h3}
	for name, test := range map[string]struct {
		facts    tenure
		released bool
		calls    []string
	}{
		"released":                               {transferred, true, exchange},
		"no released":                            {transferred, false, with(exchange, exchange, exchange, "prove 02:00:00:00:00:02 for 15s")},
		"released, but somebody else may answer": {both, true, with(exchange, "prove 02:00:00:00:00:03 for 20s")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				if test.released {
					f.releasedAt = time.Now()
				}
				o := f.serve(t, test.facts, func(stop stopper) {
					time.Sleep(time.Second - time.Millisecond)
					stop(stopped)
				})
				assert.Equal(t, holdEnded, o.how)
				assert.Equal(t, with(test.calls, bindsAndReleases), f.recorded())
			})
		})
	}
}

// A released frame that comes while the wire is asked leaves only the others to ask.
func TestReleasedDuringTheProof(t *testing.T) {
	both := transferred
	both.before = []leasestate.Before{h2, h3}
	for name, test := range map[string]struct {
		facts tenure
		calls []string
	}{
		"nobody else":                   {transferred, []string{"prove 02:00:00:00:00:02 for 15s"}},
		"somebody else may answer, too": {both, []string{"prove 02:00:00:00:00:02,02:00:00:00:00:03 for 20s", "prove 02:00:00:00:00:03 for 20s"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.releasedAt = time.Now().Add(readyTries*releasedTimeout + proofTime)
				f.prove = func(announcer.ProofConfig) error {
					time.Sleep(2 * proofTime)
					return nil
				}
				f.serve(t, test.facts, func(stop stopper) {
					time.Sleep(time.Second)
					synctest.Wait()
					assert.Equal(t, with(exchange, exchange, exchange, test.calls, "bind", "bound", "announce"), f.recorded())
					stop(stopped)
				})
			})
		})
	}
}

func TestStrictTakeoverWaitsForTheTTL(t *testing.T) {
	for name, test := range map[string]struct {
		facts tenure
		wait  time.Duration
		calls []string
	}{
		"of the previous owner": {crashed, 15 * time.Second, []string{"prove 02:00:00:00:00:02 for 15s"}},
		// The own session TTL is longer than 30 s.
		"unknown": {unknown, 40 * time.Second, []string{"prove  for 40s"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(func(c *config.VIP) { c.Takeover = config.TakeoverStrict })
				f.serve(t, test.facts, func(stop stopper) {
					time.Sleep(test.wait - time.Millisecond)
					synctest.Wait()
					assert.Empty(t, f.recorded(), "a probe before that would prove nothing")
					time.Sleep(time.Millisecond)
					synctest.Wait()
					assert.Equal(t, with(test.calls, "bind", "bound", "announce"), f.recorded())
					stop(stopped)
				})
			})
		})
	}
}

// A released frame that comes late ends the wait of a strict takeover.
func TestStrictTakeoverHearsReleased(t *testing.T) {
	both := transferred
	both.before = []leasestate.Before{h2, h3}
	for name, test := range map[string]struct {
		facts tenure
		bound time.Duration
	}{
		"nobody else":          {transferred, 5 * time.Second},
		"somebody else before": {both, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(func(c *config.VIP) { c.Takeover = config.TakeoverStrict })
				f.releasedAt = time.Now().Add(5 * time.Second)
				f.serve(t, test.facts, func(stop stopper) {
					time.Sleep(test.bound - time.Millisecond)
					synctest.Wait()
					assert.NotContains(t, f.recorded(), "bind")
					time.Sleep(time.Millisecond)
					synctest.Wait()
					assert.Contains(t, f.recorded(), "bind")
					stop(stopped)
				})
			})
		})
	}
}

func TestTakeoverFindsAStranger(t *testing.T) {
	// A stranger of the configuration ends the proof at once, as the wire does.
	answers := func(mac net.HardwareAddr, d time.Duration) func(announcer.ProofConfig) error {
		return func(c announcer.ProofConfig) error {
			stranger := slices.ContainsFunc(c.Strangers, func(s net.HardwareAddr) bool { return s.String() == mac.String() })
			switch {
			case stranger:
				return &announcer.InUseError{MAC: mac}
			case c.Timeout < d:
				time.Sleep(c.Timeout)
				return &announcer.InUseError{MAC: mac}
			}
			time.Sleep(d)
			return nil
		}
	}
	known := &leasestate.Contested{MAC: strangerMAC.String(), Tries: 3}
	mac2, _ := net.ParseMAC("02:00:00:00:00:02")
	for name, test := range map[string]struct {
		facts  tenure
		answer func(announcer.ProofConfig) error
		after  time.Duration
		tries  int // of the outcome; 0: the address is bound
	}{
		"that answers beyond the TTL":           {crashed, answers(strangerMAC, time.Hour), 15 * time.Second, 1},
		"that is known":                         {tenure{stranger: known, before: crashed.before}, answers(strangerMAC, time.Hour), 0, 4},
		"that is known, nobody before":          {tenure{stranger: known}, answers(strangerMAC, time.Hour), 0, 4},
		"another than the known, nobody before": {tenure{stranger: known}, answers(mac2, time.Hour), 0, 4},
		"that was known and is gone":            {tenure{stranger: known}, nil, 0, 0},
		"none: the previous owner's kernel":     {tenure{stranger: known, before: crashed.before}, answers(mac2, time.Second), time.Second, 0},
		"none: the previous owner was the stranger": {
			tenure{stranger: &leasestate.Contested{MAC: mac2.String()}, before: crashed.before}, answers(mac2, time.Second), time.Second, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.prove = test.answer
				o := f.serve(t, test.facts, func(stop stopper) {
					time.Sleep(test.after)
					synctest.Wait()
					if test.tries == 0 {
						assert.Contains(t, f.recorded(), "bind")
						stop(stopped)
					}
				})
				if test.tries == 0 {
					assert.Equal(t, holdEnded, o.how)
					return
				}
				assert.NotContains(t, f.recorded(), "bind")
				assert.Equal(t, contested, o.how)
				require.ErrorIs(t, o.err, ErrConflict)
				assert.Equal(t, test.tries, o.left().Contested.Tries)
				assert.False(t, o.left().Unclean)
				assert.Contains(t, f.log.String(), "address contested")
			})
		})
	}
}

// A node whose frames do not leave it must not take the lock again and again.
func TestFramesThatCannotBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.prove = func(announcer.ProofConfig) error { return fmt.Errorf("%w: filtered", announcer.ErrNotSent) }
		for _, backOff := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			o := f.serve(t, crashed, endsByItself)
			assert.Equal(t, unable, o.how)
			require.NoError(t, f.vip.exit(lease.End{Kind: lease.SteppedDown, Reason: o.err}, o))
			require.ErrorIs(t, f.contender.last().Ineligible, announcer.ErrNotSent)
			time.Sleep(backOff*time.Second - 1)
			require.Error(t, f.contender.last().Ineligible, backOff)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			require.NoError(t, f.contender.last().Ineligible, backOff)
		}
		f.prove = nil
		f.serve(t, crashed, func(stop stopper) {
			time.Sleep(time.Minute)
			stop(stopped)
		})
		f.prove = func(announcer.ProofConfig) error { return announcer.ErrNotSent }
		f.serve(t, crashed, endsByItself)
		time.Sleep(time.Second)
		synctest.Wait()
		require.NoError(t, f.contender.last().Ineligible, "a minute of service resets the back-off")
	})
}

// A link that goes down while a lock is acquired has the time of the debounce.
func TestTakeoverWaitsForTheLink(t *testing.T) {
	for name, test := range map[string]struct {
		down time.Duration
		want how
	}{
		"a short loss":  {carrierDebounce - 1, holdEnded},
		"a longer loss": {carrierDebounce, linkDown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.vip.link.update(netif.LinkChanged{Index: 7, HardwareAddr: ownMAC})
				o := f.serve(t, free, func(stop stopper) {
					assert.Empty(t, f.recorded())
					time.Sleep(test.down)
					if ended, _ := f.vip.link.debounce(); ended {
						return
					}
					f.vip.link.update(netif.LinkChanged{Index: 7, Up: true, HardwareAddr: ownMAC})
					synctest.Wait()
					assert.Contains(t, f.recorded(), "bind")
					stop(stopped)
				})
				assert.Equal(t, test.want, o.how)
			})
		})
	}
}

// A link that is lost ends a wait, however long that would be.
func TestTakeoverEndsWithTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(func(c *config.VIP) { c.Takeover = config.TakeoverStrict })
		o := f.serve(t, crashed, func(stopper) {
			f.vip.link.update(netif.LinkChanged{Index: 7, HardwareAddr: ownMAC})
			time.Sleep(carrierDebounce)
			f.vip.link.debounce()
		})
		assert.Equal(t, linkDown, o.how)
		assert.NotContains(t, f.recorded(), "bind")
	})
}
