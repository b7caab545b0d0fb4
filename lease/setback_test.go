package lease

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSetback(t *testing.T) {
	var s setback
	left, ended := s.look(0)
	assert.Zero(t, left)
	assert.False(t, ended)
	now := time.Hour
	for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second, 10 * time.Minute, 10 * time.Minute} {
		assert.True(t, s.begin(now))
		now += want / 2
		assert.False(t, s.begin(now), "another lock of the same loss")
		left, ended = s.look(now)
		assert.Equal(t, want, left)
		assert.False(t, ended)
		now += want
		left, ended = s.look(now)
		assert.Zero(t, left)
		assert.True(t, ended)
		_, ended = s.look(now)
		assert.False(t, ended, "once")
		now += calmTime - time.Second
	}
	now += time.Second
	assert.True(t, s.begin(now))
	assert.Equal(t, firstSetback, s.length, "ten calm minutes have passed")
}

// The record tells the owner that its lock was taken by a member, also if that has left
// the lock meanwhile.
func TestTakenIsNotLost(t *testing.T) {
	for name, by := range map[string]string{"held": "other", "left": ""} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *instance) {
				h := b.hold()
				<-h.held
				session := b.consul.Get(lockKey).Session
				b.takenBy(by)
				err := h.ends(Taken)
				require.NotErrorIs(t, err, ErrLockLost)
				require.EqualError(t, err, "taken over by h2: this host did not answer on the wire")
				assert.Contains(t, b.consul.Sessions(), session, "it is not asked about")
				h = b.hold()
				synctest.Wait()
				assert.Equal(t, 1101, b.priority("h1"))
				time.Sleep(firstSetback)
				synctest.Wait()
				assert.Equal(t, 100, b.priority("h1"))
				h.cancel(nil)
				<-h.result
			})
		})
	}
}

// takenBy has h2 take the lock, and leaves the session on the key; empty: none.
func (b *instance) takenBy(session string) {
	const record = `{"state":"held","node":"h2","session":"other","reason":"host-dead","took_from":"h1"}`
	if session != "" {
		b.consul.Put(lockKey, record, session)
		return
	}
	own := b.consul.Get(lockKey).Session
	require.NoError(b.t, b.consul.Release(lockKey, record, own))
}
