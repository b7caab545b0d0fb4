package lease

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

func (b *instance) drain(node string) {
	b.consul.Put("p/.drain/"+node, `{"at":"2026-11-22T05:11:37Z"}`, "")
}
func (b *instance) undrain(node string) { b.consul.Delete("p/.drain/" + node) }

func TestDrain(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		began := time.Now()
		b.drain("h1")
		<-next.held
		assert.Zero(t, time.Since(began))
		err := h.ends(Transferred)
		assert.ErrorContains(t, err, state.ErrDrained.Error())

		// It stays a member, but it is no successor and takes no lock.
		h = b.hold()
		next.stops("stopped")
		require.NotEqual(t, Transferred, next.ended.Kind)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, h.held)
		assert.Equal(t, 100, b.priority("h1"))

		b.undrain("h1")
		undrained := time.Now()
		<-h.held
		assert.Zero(t, time.Since(undrained))
		h.stops("done")
	})
}

func TestDrainMovesNothingElse(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		other := Lock{Name: "10.77.0.101", Priority: 100}
		theirs := o.holdLock(other)
		<-theirs.held
		standby := b.holdLock(other)
		time.Sleep(settleDelay)
		synctest.Wait()
		before := b.consul.Get("p/10.77.0.101/.lock").ModifyIndex
		b.drain("h1")
		<-next.held
		h.ends(Transferred)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.undrain("h1")
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, before, b.consul.Get("p/10.77.0.101/.lock").ModifyIndex)
		assert.Empty(t, next.lost, "the drained node takes nothing back")
		_ = standby.release("done")
		_ = theirs.release("done")
	})
}

func TestUndrainedNodePreempts(t *testing.T) {
	eager, second := ours, ours
	second.Priority, second.PreemptDelay = 200, 10*time.Second
	bubble(t, func(b *instance) {
		b.drain("h1")
		o := b.second()
		next := o.holdLock(second)
		<-next.held
		h := b.holdLock(eager)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, next.lost, "a drained node is not better placed")
		b.undrain("h1")
		began := time.Now()
		<-h.held
		assert.Equal(t, second.PreemptDelay, time.Since(began))
		next.ends(Transferred)
		h.stops("done")
		require.NoError(t, o.stop())
	})
}

func TestDrainedNodeServesUntilASuccessorComes(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		b.drain("h1")
		b.drain("h2")
		o := b.second()
		next := o.hold()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, h.lost, "another drained node cannot take it")
		require.Empty(t, next.held)

		b.undrain("h2")
		began := time.Now()
		<-next.held
		assert.Zero(t, time.Since(began))
		h.ends(Transferred)
		next.stops("done")
		require.NoError(t, o.stop())
	})
}

func TestAllMembersDrained(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		b.drain("h1")
		b.drain("h2")
		synctest.Wait()
		owner, other := h, next
		if len(next.held) > 0 { // h1 may have been faster than the second key
			h.ends(Transferred)
			owner, other = next, b.hold()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, owner.lost)
		owner.stops("stopped")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, b.consul.Get(lockKey).Session, "it stays free")
		_ = other.release("done")
	})
}

func TestDrainOutlivesTheProcess(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		b.drain("h2")
		next.stops("stopped")
		require.NoError(t, o.stop())
		o2 := b.second()
		again := o2.hold()
		h.stops("stopped")
		require.NotEqual(t, Transferred, h.ended.Kind)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, again.held)
		b.undrain("h2")
		<-again.held
		again.stops("done")
		require.NoError(t, o2.stop())
	})
}

// A transfer that reaches a node which cannot take the lock goes back to its owner.
func TestDrainedNodeReturnsATransfer(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		b.drain("h1")
		<-next.held
		h.ends(Transferred)
		synctest.Wait()
		h = b.hold()
		synctest.Wait()
		member := b.consul.Get("p/.members/h1").Session
		b.consul.Put(lockKey, `{"state":"handover","from":"h2","node":"h1","session":"`+member+`"}`, member)
		next.ends(Transferred)
		back := o.hold()
		got := <-back.held
		assert.Equal(t, "h1", got.Previous.From)
		assert.True(t, got.Previous.Stopped())
		assert.Empty(t, got.Before, "it never left h2's hands")
		require.Empty(t, h.held)
		h.stops("done")
		back.stops("done")
	})
}

func TestDrainRetriesTheTransfer(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		var tries atomic.Int32
		b.consul.On(simconsul.Only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(body(r), `"Verb":"unlock"`) && tries.Add(1) == 1 {
				return simconsul.Answer(409, "application/json", `{"Errors":[{"OpIndex":1,"What":"no"}]}`)(w, r)
			}
			return false
		}))
		began := time.Now()
		b.drain("h1")
		<-next.held
		assert.Equal(t, retryDelay, time.Since(began))
		assert.Equal(t, int32(2), tries.Load())
		h.ends(Transferred)
		b.consul.On(nil)
	})
}

func TestPinnedToADrainedNode(t *testing.T) {
	for _, node := range []string{"h1", "h2"} {
		t.Run(node, func(t *testing.T) {
			pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
				b.drain(node)
				if node == "h1" {
					<-next.held
					h.ends(Transferred)
					h, next = next, b.hold()
				}
				b.consul.Put(pinKey, node, "")
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Empty(t, h.lost, "no member can take it")
				h.stops("stopped")
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Empty(t, next.held)
				b.undrain(node)
				<-next.held
				next.stops("done")
			})
		})
	}
}

func TestDrainedNodeKeepsAPinnedLock(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		b.consul.Put(pinKey, "h1", "")
		b.drain("h1")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, h.lost, "no other member may have it")
		b.consul.Delete(pinKey)
		<-next.held
		h.ends(Transferred)
	})
}
