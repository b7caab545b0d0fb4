package agent

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

// proofTime is how long a proof takes in these tests.
const proofTime = 50 * time.Millisecond

// claim receives a claim now.
func (f *fakeVIP) claim(mac net.HardwareAddr) {
	f.claims <- announcer.Claim{Addr: f.vip.cfg().Addr(), MAC: mac, Received: time.Now()}
	synctest.Wait()
}

func TestConflictPolicies(t *testing.T) {
	givesUp := []string{"stop announcing", "unbind"}
	tests := map[string]struct {
		policy config.OnConflict
		silent bool
		want   how
		calls  []string
	}{
		"exit":              {config.ConflictExit, false, conflict, givesUp},
		"quit":              {config.ConflictQuit, false, conflict, givesUp},
		"contend":           {config.ConflictContend, false, contested, givesUp},
		"defend, lock held": {config.ConflictDefend, false, holdEnded, []string{"confirm", "announce again"}},
		"defend, unsure":    {config.ConflictDefend, true, conflict, with("confirm", givesUp)},
		"log":               {config.ConflictLog, false, holdEnded, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(func(c *config.VIP) { c.OnConflict = test.policy })
				f.silent.Store(test.silent)
				o := f.serve(t, free, func(stop stopper) {
					f.claim(strangerMAC)
					if test.silent {
						time.Sleep(confirmTimeout)
						synctest.Wait()
					}
					assert.Equal(t, with("bind", "bound", "announce", test.calls), f.recorded())
					if test.want == holdEnded {
						stop(stopped)
					}
				})
				assert.Equal(t, test.want, o.how)
				var e *ConflictError
				if errors.As(o.err, &e) {
					assert.Equal(t, strangerMAC, e.MAC)
					assert.Equal(t, test.policy == config.ConflictQuit, e.Quit)
					assert.Equal(t, lease.Left{Reason: o.err, Contested: &leasestate.Contested{MAC: strangerMAC.String()}}, o.left())
				}
			})
		})
	}
}

// At most one exit: a stranger that claims again within ten minutes moves one address only.
func TestAnotherClaimOfAStranger(t *testing.T) {
	known := tenure{stranger: &leasestate.Contested{MAC: strangerMAC.String(), Tries: 2}}
	other := net.HardwareAddr{2, 0, 0, 0, 0, 8}
	for _, policy := range []config.OnConflict{config.ConflictExit, config.ConflictQuit, config.ConflictContend} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(func(c *config.VIP) { c.OnConflict = policy })
			o := f.serve(t, known, func(stopper) { f.claim(strangerMAC) })
			assert.Equal(t, contested, o.how)
			assert.Equal(t, 3, o.left().Contested.Tries)
			require.NoError(t, f.vip.exit(lease.End{Kind: lease.SteppedDown, Reason: o.err}, o))
			assert.Len(t, logged(f.log.String(), "address contested", "mac"), 1)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		o := f.serve(t, known, func(stopper) { f.claim(other) })
		assert.Equal(t, conflict, o.how, "another stranger")
		assert.Zero(t, o.left().Contested.Tries)
	})
}

func TestDefendIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(func(c *config.VIP) { c.OnConflict = config.ConflictDefend })
		f.serve(t, free, func(stop stopper) {
			for range 90 {
				select {
				case f.claims <- announcer.Claim{MAC: strangerMAC, Received: time.Now()}:
				default: // the listener keeps one claim
				}
				time.Sleep(50 * time.Millisecond)
			}
			stop(stopped)
		})
		defended := 0
		for _, call := range f.recorded() {
			if call == "announce again" {
				defended++
			}
		}
		assert.Equal(t, 5, defended, "at once, and then once a second")
	})
}

// While the lock is not certain a claim may come from the next owner: the address is
// unbound at once, and Consul decides what the claim was.
func TestClaimWhileNotCertain(t *testing.T) {
	for name, test := range map[string]struct {
		lost, silent bool
		want         how
	}{
		"lock lost":     {true, false, holdEnded},
		"lock held":     {false, false, conflict},
		"Consul silent": {false, true, conflict},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.lost.Store(test.lost)
				f.silent.Store(test.silent)
				o := f.serve(t, free, func(stopper) {
					f.pause(2 * time.Second)
					began := time.Now()
					f.claim(strangerMAC)
					assert.Equal(t, []string{"bind", "bound", "announce", "unbind", "confirm"}, f.recorded()[:5])
					assert.Zero(t, time.Since(began))
					if test.silent {
						time.Sleep(confirmTimeout)
					}
				})
				assert.Equal(t, test.want, o.how)
			})
		})
	}
	t.Run("lock held, defended", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(func(c *config.VIP) { c.OnConflict = config.ConflictDefend })
			f.serve(t, free, func(stop stopper) {
				f.pause(2 * time.Second)
				f.claim(strangerMAC)
				assert.Contains(t, f.recorded()[4:], "bind", "it is bound again")
				stop(stopped)
			})
		})
	})
}

// After the address's lifetime has ended, and before the session is lost.
func TestClaimAtTheHoldDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.deadline.Store(int64(7900 * time.Millisecond))
		f.silent.Store(true)
		o := f.serve(t, free, func(stop stopper) {
			time.Sleep(7500 * time.Millisecond)
			f.uncertain.Store(true)
			f.claim(strangerMAC)
			time.Sleep(400 * time.Millisecond)
			stop(lease.End{Kind: lease.SessionLost, Reason: lease.ErrSessionLost})
		})
		assert.Equal(t, holdEnded, o.how)
	})
}

// No claim is lost between the proof and the first announcement, and none from
// before the proof counts.
func TestClaimsAroundTheProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.prove = func(announcer.ProofConfig) error {
			f.claims <- announcer.Claim{Addr: f.vip.cfg().Addr(), MAC: strangerMAC, Received: time.Now()}
			time.Sleep(proofTime)
			return nil
		}
		f.serve(t, crashed, func(stop stopper) {
			time.Sleep(proofTime)
			synctest.Wait()
			assert.Contains(t, f.recorded(), "announce")
			stop(stopped)
		})
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.releasedAt = time.Now().Add(20 * time.Millisecond)
		f.serve(t, transferred, func(stop stopper) {
			f.claims <- announcer.Claim{Addr: f.vip.cfg().Addr(), MAC: strangerMAC, Received: time.Now()} // of the owner
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
			assert.Contains(t, f.recorded(), "announce")
			stop(stopped)
		})
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.onBind = func() {
			f.claims <- announcer.Claim{Addr: f.vip.cfg().Addr(), MAC: strangerMAC, Received: time.Now()}
		}
		assert.Equal(t, conflict, f.serve(t, crashed, endsByItself).how)
	})
}
