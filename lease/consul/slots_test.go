package consul

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
)

// written runs test with a Client on a Consul that has a session s.
func written(t *testing.T, test func(c *Client, f *simconsul.Consul)) {
	synctest.Test(t, func(t *testing.T) {
		f := simconsul.New(t)
		client, closeClient := f.Client(Transport)
		defer closeClient()
		f.Begin("s", "another program")
		c := New(client, nil)
		defer c.Close()
		test(c, f)
	})
}

// result is how one write ended.
type result struct {
	err error
	at  time.Duration // since the start of the write
}

func start(write func() error) <-chan result {
	ended, began := make(chan result, 1), time.Now()
	go func() {
		err := write()
		ended <- result{err, time.Since(began)}
	}()
	return ended
}

func (c *Client) startCommit(i int) <-chan result {
	return start(func() error { _, err := c.Commit(context.Background(), lockOp(i, "s")); return err })
}

func (c *Client) startTake(i int) <-chan result {
	return start(func() error { _, err := c.Take(context.Background(), nil, lockOp(i, "s")); return err })
}

// Two writes hang on a dead leader. A take breaks off the older one as soon as it is
// TakeTry old. From then on takes have a slot of their own.
func TestATakeDoesNotWaitForATransactionThatHangs(t *testing.T) {
	written(t, func(c *Client, f *simconsul.Consul) {
		f.On(f.OrHang(nil))
		first := c.startCommit(1)
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		second := c.startCommit(2)
		synctest.Wait()
		f.On(nil) // the next leader is there
		take := c.startTake(3)
		got := <-take
		require.NoError(t, got.err)
		assert.Equal(t, TakeTry-100*time.Millisecond, got.at)
		require.ErrorIs(t, (<-first).err, errBrokenOff)
		synctest.Wait()
		assert.Empty(t, second)

		take = c.startTake(4)
		got = <-take
		require.NoError(t, got.err)
		assert.Equal(t, gatherTime, got.at)
		assert.Equal(t, writeTimeout, (<-second).at)
	})
}

// A single read gives its slot away as well.
func TestATakeDoesNotWaitForAReadThatHangs(t *testing.T) {
	written(t, func(c *Client, f *simconsul.Consul) {
		f.On(f.OrHang(nil))
		var reads [2]<-chan result
		for i := range reads {
			reads[i] = start(func() error { _, err := c.ReadLock(context.Background(), "p/1/.lock"); return err })
			synctest.Wait()
		}
		f.On(nil)
		take := <-c.startTake(3)
		require.NoError(t, take.err)
		assert.Equal(t, TakeTry, take.at)
		assert.Equal(t, TakeTry, (<-reads[0]).at)
		assert.Equal(t, readTimeout, (<-reads[1]).at)
	})
}

// A transaction of a Consul that is well is not broken off.
func TestATakeWaitsForATransactionThatIsAnswered(t *testing.T) {
	written(t, func(c *Client, f *simconsul.Consul) {
		f.On(simconsul.Only("/v1/txn", func(http.ResponseWriter, *http.Request) bool {
			time.Sleep(20 * time.Millisecond)
			return false
		}))
		first := c.startCommit(1)
		synctest.Wait()
		second := c.startCommit(2)
		synctest.Wait()
		take := <-c.startTake(3)
		require.NoError(t, take.err)
		assert.Equal(t, 40*time.Millisecond, take.at)
		require.NoError(t, (<-first).err)
		require.NoError(t, (<-second).err)
	})
}

// Takes that hang give up their slots after TakeTry, and leave one to others.
func TestTakesDoNotKeepOthersWaiting(t *testing.T) {
	written(t, func(c *Client, f *simconsul.Consul) {
		f.On(f.OrHang(nil))
		ctx, cancel := context.WithCancel(context.Background())
		var tries sync.WaitGroup
		for i := range 200 {
			tries.Go(func() {
				for ctx.Err() == nil {
					_, _ = c.Take(ctx, nil, lockOp(i, "s"))
				}
			})
		}
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		f.On(nil)
		commit := <-c.startCommit(1000)
		require.NoError(t, commit.err)
		assert.Equal(t, TakeTry-10*time.Millisecond+gatherTime, commit.at)
		cancel()
		tries.Wait()
	})
}

// The takes of one moment share transactions.
func TestTakesShareTransactions(t *testing.T) {
	written(t, func(c *Client, f *simconsul.Consul) {
		sizes := transactions(f)
		var takes []<-chan result
		for i := range 100 {
			takes = append(takes, start(func() error {
				key := fmt.Sprintf("p/%d/.lock", i)
				_, err := c.Take(context.Background(), nil, Unchanged(key, 0), Acquire(key, nil, "s"), Release(key, nil, "s"))
				return err
			}))
		}
		for _, take := range takes {
			require.NoError(t, (<-take).err)
		}
		assert.ElementsMatch(t, []int{126, 126, 48}, sizes())
	})
}

// A take that nobody wants any more is not sent.
func TestATakeThatIsNotWanted(t *testing.T) {
	written(t, func(c *Client, f *simconsul.Consul) {
		var wanted atomic.Bool
		take := start(func() error { _, err := c.Take(context.Background(), wanted.Load, lockOp(1, "s")); return err })
		other := c.startTake(2)
		require.ErrorIs(t, (<-take).err, ErrUnsent)
		require.NoError(t, (<-other).err)
		assert.Nil(t, f.Get("p/1/.lock"))
		assert.NotNil(t, f.Get("p/2/.lock"))
		wanted.Store(true)
		_, err := c.Take(context.Background(), wanted.Load, lockOp(1, "s"))
		require.NoError(t, err)
	})
}
