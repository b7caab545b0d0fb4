package announcer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Failures with a long time in between are separate series.
func TestReadBackoff(t *testing.T) {
	var backoff readBackoff
	now := time.Now()
	for range 3 {
		now = now.Add(time.Minute)
		want := minPause
		for range 7 {
			pause, err := backoff.after(unix.ENOMEM, now)
			require.NoError(t, err)
			require.Equal(t, want, pause)
			now = now.Add(pause)
			want = min(2*want, maxPause)
		}
	}
}
