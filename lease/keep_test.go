package lease

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// Tests of what the records of a lock say about the owners before.

const dead = `{"state":"held","node":"h9","mac":"02:00:00:00:00:09","ttl":"15s"}`

func TestARecordNamesTheOwnersBeforeUntilTheAddressIsBound(t *testing.T) {
	bubble(t, func(b *instance) {
		b.consul.Put(lockKey, dead, "")
		before := []state.Before{{Node: "h9", Owner: `{"mac":"02:00:00:00:00:09"}`, TTL: "15s"}}
		bind := make(chan struct{})
		go b.run(ours, func(_ context.Context, h *Held) Left {
			assert.Equal(t, before, h.Before)
			<-bind
			h.Bound()
			<-bind
			return Left{}
		})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		assert.Equal(t, before, b.record().Before)
		bind <- struct{}{}
		time.Sleep(settleDelay - 1)
		assert.Equal(t, before, b.record().Before)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.Empty(t, b.record().Before)
		assert.Equal(t, "h1", b.record().Node)
		bind <- struct{}{}
		synctest.Wait()
	})
}

// The successor of an owner that died before it had bound the address must make
// sure of both.
func TestTheOwnersBeforeAreNotForgotten(t *testing.T) {
	bubble(t, func(b *instance) {
		b.consul.Put(lockKey, dead, "")
		running, ended := b.holdUnserved()
		<-running
		o := b.second()
		next := o.hold()
		b.consul.Destroy(b.consul.Get(lockKey).Session)
		require.Equal(t, SessionLost, (<-ended).Kind)
		got := <-next.held
		var nodes []string
		for _, before := range got.Before {
			nodes = append(nodes, before.Node)
		}
		assert.Equal(t, []string{"h1", "h9"}, nodes)
		next.stops("done")
		require.NoError(t, o.stop())
	})
}

// A lock that is found under our session, and was not transferred, is taken by a
// write, so that a release that is still under way cannot undo it.
func TestATenureBeginsWithAWrite(t *testing.T) {
	bubble(t, func(b *instance) {
		arrive := b.detain()
		h := b.hold()
		<-h.held
		h.stops("stopped")
		left := b.consul.Get(lockKey)
		require.NotEmpty(t, left.Session, "the release is still under way")
		h = b.hold()
		<-h.held
		synctest.Wait()
		assert.Greater(t, b.consul.Get(lockKey).ModifyIndex, left.ModifyIndex)
		arrive()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.NotEmpty(t, b.consul.Get(lockKey).Session)
		assert.Empty(t, h.lost)
		h.stops("done")
	})
}

// The first write of a tenure that began by a transfer does not delay it, is tried
// until it works, and every later write is conditional on it.
func TestTheFirstWriteAfterATransfer(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		b.consul.On(simconsul.Only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(body(r), "unlock") {
				return false
			}
			return simconsul.Answer(500, "text/plain", "No cluster leader")(w, r)
		}))
		h.stops("stopped")
		<-next.held
		synctest.Wait()
		assert.Equal(t, state.RecordHandover, b.record().State)
		b.consul.On(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Equal(t, state.RecordHeld, b.record().State)
		assert.Equal(t, "h2", b.record().Node)
		assert.Empty(t, next.lost)
	})
}

// give transfers h1's lock to h2, in a record with these fields more.
func (b *instance) give(more string) {
	member := b.consul.Get("p/.members/h2").Session
	b.consul.Put(lockKey, `{"state":"handover","from":"h1","node":"h2","mac":"02:00:00:00:00:01","session":"`+member+`"`+more+`}`, member)
}

func TestATransferToAnIneligibleMember(t *testing.T) {
	down := ours
	down.Ineligible = errors.New("the link is down")
	for name, test := range map[string]struct {
		more string // of the handover's record
		owner,
		from string
	}{
		"goes back to the owner, which still serves":       {``, "h1", "h2"},
		"goes to another member, if the owner has stopped": {`,"at":"2026-11-22T05:11:37Z"`, "another", "h1"},
		"is released, if it was forwarded before":          {`,"hops":1`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
				third := b.node("h3")
				last := third.hold()
				time.Sleep(5 * time.Second)
				o.contenders[vip].Set(down)
				b.give(`,"nonce":"0123456789ab"` + test.more)
				end := <-h.result // h1 may see the transfer, or only what came after it
				require.Contains(t, []Kind{Transferred, LockLost}, end.Kind)
				back := b.hold()
				synctest.Wait()
				assert.Empty(t, next.held)
				var got *Held
				switch test.owner {
				case "h1":
					got = <-back.held
					assert.Equal(t, 1, got.Previous.Hops)
					assert.Empty(t, got.Previous.Nonce, "there is nobody to speak to")
				case "another":
					select {
					case got = <-last.held:
					case got = <-back.held:
					}
					assert.Equal(t, 1, got.Previous.Hops)
					assert.Equal(t, "0123456789ab", got.Previous.Nonce, "the owner knows no other")
					assert.True(t, got.Previous.Stopped())
				default:
					select {
					case got = <-last.held:
					case got = <-back.held:
					}
					assert.Equal(t, state.RecordHeld, got.Previous.State)
					assert.Equal(t, "h1", got.Before[0].Node, "h1 may still serve")
				}
				assert.Equal(t, test.from, got.Previous.From)
				_ = last.release("done")
				_ = back.release("done")
				require.NoError(t, third.stop())
			})
		})
	}
}

// A restored snapshot may show the record of our last tenure under our session
// again, although another owner has bound the address since.
func TestOurOwnRecordProvesNothing(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		synctest.Wait()
		snapshot := b.consul.Get(lockKey)
		b.consul.Put("p/10.77.0.100/release", "h1", "")
		<-next.held
		h.ends(Transferred)
		synctest.Wait()
		b.consul.Put(lockKey, string(snapshot.Value), snapshot.Session)
		next.ends(LockLost)
		h = b.hold()
		assert.Contains(t, (<-h.held).Before, state.Before{}, "somebody unknown")
		h.stops("done")
	})
}

// A deleted key tells nothing about those before, but its last record does, and anybody
// else who had the lock since is a member.
func TestBeforeADeletedKey(t *testing.T) {
	trio(t, func(c *cluster) {
		c.h1.consul.Delete(lockKey)
		got := <-c.second.held
		assert.Equal(t, []state.Before{{Node: "h1", Owner: ours.Owner, TTL: "30s"}, {Node: "h3", TTL: "30s"}}, got.Before)
		assert.Equal(t, LockLost, (<-c.owner.result).Kind)
	})
}
