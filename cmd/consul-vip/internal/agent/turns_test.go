package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// hasCome reports whether it is this turn.
func (n *turn) hasCome() bool {
	select {
	case <-n.come:
		return true
	default:
		return false
	}
}

func TestTurns(t *testing.T) {
	turns := newTurns()
	first, second, bind, third := turns.refresh(), turns.refresh(), turns.bind(), turns.refresh()
	assert.True(t, first.hasCome())
	assert.False(t, second.hasCome())
	second.done() // leaves the queue
	assert.False(t, third.hasCome())
	first.done()
	first.done()
	assert.True(t, third.hasCome(), "a refresh goes before a bind")
	assert.False(t, bind.hasCome())
	third.done()
	assert.True(t, bind.hasCome())
}

// Refreshes keep addresses alive, but binds have to come up as well.
func TestBindsDoNotStarve(t *testing.T) {
	turns := newTurns()
	current := turns.refresh()
	bind := turns.bind()
	refreshes := 0
	for ; !bind.hasCome(); refreshes++ {
		next := turns.refresh()
		current.done()
		current = next
	}
	assert.Equal(t, refreshesPerBind, refreshes)
	bind.done()
	assert.True(t, current.hasCome())
}

func TestBindingIsFirstInFirstOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		var order []int
		for i := range 5 {
			go func() {
				turns.startBinding(context.Background())
				order = append(order, i)
				time.Sleep(time.Second)
				turns.endBinding()
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		assert.False(t, turns.startBinding(ctx))
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, []int{0, 1, 2, 3, 4}, order)
	})
}
