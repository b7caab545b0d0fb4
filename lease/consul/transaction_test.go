package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
)

// transactions records how many operations each transaction had, and takes a
// while for each.
func transactions(f *simconsul.Consul) func() []int {
	var mu sync.Mutex
	var sizes []int
	f.On(simconsul.Only("/v1/txn", func(_ http.ResponseWriter, r *http.Request) bool {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		var ops []json.RawMessage
		_ = json.Unmarshal(body, &ops)
		mu.Lock()
		sizes = append(sizes, len(ops))
		mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		return false
	}))
	return func() []int {
		mu.Lock()
		defer mu.Unlock()
		return append([]int(nil), sizes...)
	}
}

func lockOp(i int, session string) Op {
	return Acquire(fmt.Sprintf("p/%d/.lock", i), nil, session)
}

func TestWritesShareTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := simconsul.New(t)
		client, closeClient := f.Client(Transport)
		defer closeClient()
		f.Begin("s", "another program")
		f.Put("p/7/.lock", "", "other")
		sizes := transactions(f)
		c := New(client, nil)
		defer c.Close()

		var wg sync.WaitGroup
		errs := make([]error, 300)
		for i := range errs {
			wg.Go(func() { _, errs[i] = c.Commit(context.Background(), lockOp(i, "s")) })
		}
		wg.Wait()
		for i, err := range errs {
			if i == 7 {
				require.ErrorIs(t, err, ErrConflict)
				assert.ErrorContains(t, err, "already held")
				continue
			}
			require.NoError(t, err, "one refused request takes no other with it")
			assert.Equal(t, "s", f.Get(fmt.Sprintf("p/%d/.lock", i)).Session)
		}
		assert.LessOrEqual(t, len(sizes()), 10)
		for _, n := range sizes() {
			assert.LessOrEqual(t, n, maxOps)
		}
	})
}

func TestCommitIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := simconsul.New(t)
		client, closeClient := f.Client(Transport)
		defer closeClient()
		f.On(f.OrHang(nil))
		c := New(client, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for i := range errs {
			wg.Go(func() { _, errs[i] = c.Commit(ctx, lockOp(i, "s")) })
			synctest.Wait()
		}
		wg.Wait()
		require.NotErrorIs(t, errs[0], ErrUnsent, "it may have been written")
		require.NotErrorIs(t, errs[1], ErrUnsent)
		require.ErrorIs(t, errs[2], ErrUnsent, "the slots were taken")
		began := time.Now()
		c.Close()
		assert.Zero(t, time.Since(began), "Close does not wait for Consul")
	})
}
