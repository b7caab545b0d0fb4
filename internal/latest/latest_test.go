package latest_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// closed reports whether a channel is closed, without waiting for it.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestLatest(t *testing.T) {
	var l latest.Latest[string]
	value, first := l.Get()
	require.Empty(t, value)
	require.False(t, closed(first))

	l.Set("one")
	require.True(t, closed(first), "Set tells those who called Get before")
	value, second := l.Get()
	require.Equal(t, "one", value)
	require.False(t, closed(second))

	l.Set("one")
	require.True(t, closed(second), "an equal value is a change as well")
}

// TestLatestWakesEverybody has many goroutines follow one value to its end.
func TestLatestWakesEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			l         latest.Latest[int]
			followers sync.WaitGroup
		)
		const last = 100
		for range 20 {
			followers.Go(func() {
				seen := -1
				for seen != last {
					value, changed := l.Get()
					if value == seen {
						<-changed
						continue
					}
					assert.Greater(t, value, seen, "values come in order")
					seen = value
				}
			})
		}
		for i := range last + 1 {
			l.Set(i)
		}
		followers.Wait()
	})
}

func TestWake(t *testing.T) {
	w := latest.NewWake()
	require.False(t, closed(w), "nobody has set it")
	w.Set()
	w.Set()
	<-w
	require.False(t, closed(w), "two wakes that nobody received are one")
	w.Set()
	w.Clear()
	w.Clear()
	require.False(t, closed(w), "a cleared wake is not received")
}

func ExampleLatest() {
	var temperature latest.Latest[int]
	_, changed := temperature.Get()
	go temperature.Set(21)
	<-changed
	now, _ := temperature.Get()
	fmt.Println(now)
	// Output: 21
}
