package consul

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// seen is one result of Follow.
type seen struct {
	Answer
	err error
	at  time.Duration // since the bubble's start, as Answer.Sent
}

// following is a Follow under way on a fake Consul.
type following struct {
	*simconsul.Consul
	client *Client
	reread latest.Wake
	news   chan seen
	start  time.Time
}

// followed runs test beside a Follow of the keys below p/.
func followed(t *testing.T, test func(f *following)) {
	synctest.Test(t, func(t *testing.T) {
		f := &following{Consul: simconsul.New(t), reread: latest.NewWake(), news: make(chan seen, 1000), start: time.Now()}
		client, closeClient := f.Client(Transport)
		defer closeClient()
		c := New(client, nil)
		defer c.Close()
		f.client = c
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		defer time.Sleep(time.Second) // a delayed answer may be left
		running.Go(func() {
			for a, err := range c.Follow(ctx, state.NewKeys("p"), f.now, f.reread) {
				f.news <- seen{a, err, f.now()}
			}
		})
		defer running.Wait()
		defer cancel()
		test(f)
	})
}

func (f *following) now() time.Duration { return time.Since(f.start) }

// all returns what Follow has yielded since the last call.
func (f *following) all() (all []seen) {
	synctest.Wait()
	for {
		select {
		case s := <-f.news:
			all = append(all, s)
		default:
			return all
		}
	}
}

// hang lets a list of the keys hang until its client gives up, for as long as the
// result is true.
func (f *following) hang() (hanging *atomic.Bool) {
	hanging = new(atomic.Bool)
	hanging.Store(true)
	f.On(func(_ http.ResponseWriter, r *http.Request) bool {
		if hanging.Load() && r.URL.Query().Has("recurse") {
			<-r.Context().Done()
			return true
		}
		return false
	})
	return hanging
}

func TestFollowYieldsTheSameStateWhenNothingChanges(t *testing.T) {
	followed(t, func(f *following) {
		first := <-f.news
		assert.True(t, first.Consistent)
		for i := range 3 {
			a := <-f.news
			require.NoError(t, a.err)
			assert.Same(t, first.State, a.State)
			assert.False(t, a.Consistent)
			assert.Equal(t, time.Duration(i)*watchWait, a.Sent, "when the query was sent, not when it was answered")
			assert.Equal(t, a.Sent+watchWait, a.at)
		}
		f.Put("p/a/pin", "h1", "")
		a := <-f.news
		assert.NotSame(t, first.State, a.State)
		assert.Equal(t, "h1", a.Pin("a"))
		assert.Equal(t, 3*watchWait, a.Sent)
	})
}

func TestRereadInterruptsTheQuery(t *testing.T) {
	followed(t, func(f *following) {
		first := <-f.news
		time.Sleep(time.Second)
		f.reread.Set()
		a := <-f.news
		assert.True(t, a.Consistent)
		assert.Equal(t, time.Second, a.Sent, "at once")
		assert.Same(t, first.State, a.State, "nothing has changed")
		assert.Equal(t, time.Second+watchWait, (<-f.news).at, "then it waits for changes again")
	})
}

func TestRereadDoesNotWaitForAQueryThatHangs(t *testing.T) {
	followed(t, func(f *following) {
		<-f.news
		hanging := f.hang()
		time.Sleep(watchWait + time.Second) // the running query ends by itself
		f.all()
		f.reread.Set()
		synctest.Wait()
		hanging.Store(false)
		began := f.now()
		a := <-f.news
		require.ErrorIs(t, a.err, context.DeadlineExceeded)
		assert.Equal(t, time.Second, a.at-began)
		a = <-f.news
		require.NoError(t, a.err)
		assert.Equal(t, time.Second+rereadPause, a.Sent-began)
		assert.True(t, a.Consistent)
	})
}

func TestRereadGoesOnUntilThereIsAnAnswer(t *testing.T) {
	followed(t, func(f *following) {
		<-f.news
		hanging := f.hang()
		began := f.now()
		f.reread.Set()
		var failed []time.Duration
		for range 4 {
			a := <-f.news
			require.ErrorIs(t, a.err, context.DeadlineExceeded)
			failed = append(failed, a.at-began)
			f.reread.Set() // one that comes during a try does not break it off
		}
		ms := time.Millisecond
		assert.Equal(t, []time.Duration{1000 * ms, 3200 * ms, 7400 * ms, 11600 * ms}, failed)
		hanging.Store(false)
		a := <-f.news
		require.NoError(t, a.err)
		assert.True(t, a.Consistent)
		assert.Equal(t, 11800*ms, a.Sent-began)
	})
}

func TestRereadInterruptsThePause(t *testing.T) {
	followed(t, func(f *following) {
		<-f.news
		f.On(simconsul.Answer(500, "text/plain", "no leader"))
		f.Put("p/a/pin", "h1", "")
		time.Sleep(time.Minute)
		require.Less(t, len(f.all()), 30, "the pause is 5 s by now")
		f.On(nil)
		began := f.now()
		f.reread.Set()
		a := <-f.news
		require.NoError(t, a.err)
		assert.Equal(t, began, a.Sent)
		assert.Equal(t, "h1", a.Pin("a"))
	})
}

// A wake that comes while a consistent read is under way asks for one that is sent
// afterwards: the caller may have been paused meanwhile.
func TestRereadDuringAReread(t *testing.T) {
	followed(t, func(f *following) {
		<-f.news
		f.Delay(func(*http.Request) { time.Sleep(100 * time.Millisecond) })
		time.Sleep(time.Second)
		f.reread.Set()
		time.Sleep(50 * time.Millisecond)
		f.reread.Set()
		f.reread.Set()
		a, b := <-f.news, <-f.news
		assert.Equal(t, time.Second, a.Sent)
		assert.Equal(t, 1100*time.Millisecond, b.Sent)
		assert.True(t, b.Consistent)
		f.Delay(nil)
		assert.False(t, (<-f.news).Consistent, "three wakes are two reads")
	})
}

func TestHistoryCountsWhenTheIndexGoesBack(t *testing.T) {
	followed(t, func(f *following) {
		f.Advance(1000)
		f.Put("p/a/.lock", `{"state":"held","node":"h1"}`, "s1")
		time.Sleep(time.Second)
		all := f.all()
		before := all[len(all)-1]
		assert.EqualValues(t, 0, before.History)

		f.Replace(20)
		f.Put("p/a/.lock", `{"state":"held","node":"h2"}`, "s2")
		time.Sleep(2 * watchWait)
		all = f.all()
		require.NotEmpty(t, all)
		assert.True(t, all[0].Consistent, "the answer to the running query is not yielded")
		for _, a := range all {
			assert.EqualValues(t, 1, a.History)
			assert.Less(t, a.Index, before.Index)
		}
		f.Put("p/b/pin", "h1", "")
		time.Sleep(time.Second)
		f.reread.Set()
		time.Sleep(10 * watchWait)
		all = f.all()
		assert.EqualValues(t, 1, all[len(all)-1].History, "higher indexes belong to the same history")
		assert.Equal(t, "h2", all[len(all)-1].Locks["a"].Record.Node)
	})
}

// A leader that has not replayed its log yet answers with a lower index, but is not
// another history.
func TestALateLeaderIsNotAnotherHistory(t *testing.T) {
	followed(t, func(f *following) {
		<-f.news
		f.Advance(100)
		f.Put("p/a/.lock", "", "")
		first := <-f.news
		stale := simconsul.Only("/v1/kv/p/", func(w http.ResponseWriter, r *http.Request) bool {
			if !r.URL.Query().Has("index") {
				return false
			}
			f.On(nil)
			w.Header().Set("X-Consul-Index", "3")
			w.WriteHeader(http.StatusNotFound)
			return true
		})
		f.On(stale)
		time.Sleep(3 * watchWait)
		for _, a := range f.all() {
			require.NoError(t, a.err)
			assert.EqualValues(t, 0, a.History)
			assert.Same(t, first.State, a.State)
		}
	})
}

// The keys that a token may read change without the index.
func TestFollowTellsThatAListWasFiltered(t *testing.T) {
	followed(t, func(f *following) {
		f.Put("p/a/pin", "h1", "")
		time.Sleep(time.Second)
		all := f.all()
		before := all[len(all)-1]
		require.False(t, before.Filtered)

		var visible atomic.Pointer[string]
		show := func(key string) {
			list := fmt.Sprintf(`[{"Key":%q,"Value":"aDE=","ModifyIndex":3}]`, key)
			visible.Store(&list)
		}
		show("p/a/pin")
		f.On(simconsul.Only("/v1/kv/p/", func(w http.ResponseWriter, r *http.Request) bool {
			time.Sleep(watchWait)
			w.Header().Set("X-Consul-Index", strconv.FormatUint(before.Index, 10))
			w.Header().Set("X-Consul-LastContact", "0")
			w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
			_, _ = io.WriteString(w, *visible.Load())
			return true
		}))
		time.Sleep(3 * watchWait)
		all = f.all()
		filtered := all[len(all)-1]
		require.NoError(t, filtered.err)
		assert.True(t, filtered.Filtered)
		assert.Equal(t, "h1", filtered.Pin("a"))
		assert.ErrorIs(t, <-f.client.denied, ErrFiltered, "the ACL checker is told")

		show("p/b/pin")
		time.Sleep(3 * watchWait)
		all = f.all()
		assert.Empty(t, all[len(all)-1].Pin("a"))

		f.On(nil)
		time.Sleep(3 * watchWait)
		all = f.all()
		assert.False(t, all[len(all)-1].Filtered)
	})
}

func TestFollowEndsWithItsContextDuringAReread(t *testing.T) {
	followed(t, func(f *following) {
		<-f.news
		f.hang()
		f.reread.Set()
		synctest.Wait() // the bubble waits for all goroutines
		for _, a := range f.all() {
			require.False(t, errors.Is(a.err, context.Canceled))
		}
	})
}

// A snapshot may be restored before an answer has shown the last write. The index
// then never goes back from one answer to the next.
func TestAnIndexBelowAWriteOfOursIsAnotherHistory(t *testing.T) {
	f := follower{client: &Client{writer: &writer{}}, keys: state.NewKeys("p")}
	f.client.writer.wrote(160)
	f.client.writer.wrote(150)
	first := f.take(state.List{Index: 165}, 0, 160)
	require.EqualValues(t, 0, first.History)
	f.client.writer.wrote(166)
	assert.Nil(t, f.take(state.List{Index: 165}, 165, 166), "a leader that is behind, perhaps")
	assert.Zero(t, f.index, "the next request is consistent")
	second := f.take(state.List{Index: 165}, 0, 166)
	assert.EqualValues(t, 1, second.History)
	third := f.take(state.List{Index: 165}, 165, f.client.writer.written.Load())
	assert.Same(t, second, third, "once")
}
