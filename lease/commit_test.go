package lease

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

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// transactions records how many operations each transaction had, and takes a
// while for each.
func transactions(f *fakeConsul) func() []int {
	var mu sync.Mutex
	var sizes []int
	f.on(only("/v1/txn", func(_ http.ResponseWriter, r *http.Request) bool {
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

func lockOp(i int, session string) *api.KVTxnOp {
	return lockPair(api.KVLock, fmt.Sprintf("p/%d/.lock", i), Record{}, session)
}

func TestCommitsTravelTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		client, closeClient := f.client()
		defer closeClient()
		f.begin("s")
		f.put("p/7/.lock", "", "other")
		sizes := transactions(f)
		c := newCommitter(client)
		defer c.close()

		var wg sync.WaitGroup
		errs := make([]error, 300)
		for i := range errs {
			wg.Go(func() { _, errs[i] = c.commit(context.Background(), lockOp(i, "s")) })
		}
		wg.Wait()
		for i, err := range errs {
			if i == 7 {
				require.ErrorIs(t, err, errConflict)
				assert.ErrorContains(t, err, "already held")
				continue
			}
			require.NoError(t, err, "one refused request takes no other with it")
			assert.Equal(t, "s", f.get(fmt.Sprintf("p/%d/.lock", i)).Session)
		}
		assert.LessOrEqual(t, len(sizes()), 10)
		for _, n := range sizes() {
			assert.LessOrEqual(t, n, maxOps)
		}
	})
}

func TestCommitGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		client, closeClient := f.client()
		defer closeClient()
		f.on(f.orHang(nil))
		c := newCommitter(client)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for i := range errs {
			wg.Go(func() { _, errs[i] = c.commit(ctx, lockOp(i, "s")) })
			synctest.Wait()
		}
		wg.Wait()
		require.NotErrorIs(t, errs[0], errUnsent, "it may have been written")
		require.NotErrorIs(t, errs[1], errUnsent)
		require.ErrorIs(t, errs[2], errUnsent, "the slots were taken")
		began := time.Now()
		c.close()
		assert.Zero(t, time.Since(began), "nothing is waited for in vain")
	})
}
