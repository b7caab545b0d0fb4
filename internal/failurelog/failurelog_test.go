package failurelog_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/failurelog"
)

func newLog(level hclog.Level) (*failurelog.Log, *bytes.Buffer) {
	var out bytes.Buffer
	logger := hclog.New(&hclog.LoggerOptions{Output: &out, Level: level, DisableTime: true})
	return failurelog.New(logger, "sending"), &out
}

func TestOneLineForASeriesOfFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, out := newLog(hclog.Info)
		log.Record(nil)
		require.Empty(t, out.String(), "a success is no news")
		for range 3 {
			log.Record(errors.New("link down"))
			time.Sleep(time.Second)
		}
		log.Record(nil)
		log.Record(nil)
		log.Record(errors.New("again"))
		require.Equal(t, "[WARN]  sending failed, trying again: error=\"link down\"\n"+
			"[INFO]  sending works again: after=3s\n"+
			"[WARN]  sending failed, trying again: error=again\n", out.String())
	})
}

func TestFurtherFailuresAtDebugLevel(t *testing.T) {
	log, out := newLog(hclog.Debug)
	log.Record(errors.New("first"))
	log.Record(errors.New("second"))
	require.Equal(t, "[WARN]  sending failed, trying again: error=first\n[DEBUG] sending still fails: error=second\n", out.String())
}

// TestConcurrentTries needs the race detector to say more than that it returns.
func TestConcurrentTries(t *testing.T) {
	log, out := newLog(hclog.Info)
	var tries sync.WaitGroup
	for range 8 {
		tries.Go(func() {
			for i := range 100 {
				if i%2 == 0 {
					log.Record(errors.New("odd"))
				} else {
					log.Record(nil)
				}
			}
			log.Record(nil)
		})
	}
	tries.Wait()
	require.Equal(t, bytes.Count(out.Bytes(), []byte("[WARN]")), bytes.Count(out.Bytes(), []byte("[INFO]")), "each failure that was logged has its recovery")
}
