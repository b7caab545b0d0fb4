package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// requestsOf makes one request a millisecond: '.' was answered, '-' was not.
func requestsOf(began time.Time, pattern string) []request {
	var requests []request
	for i, letter := range pattern {
		r := request{sent: began.Add(time.Duration(i) * time.Millisecond)}
		if letter == '.' {
			r.answered = r.sent
		}
		requests = append(requests, r)
	}
	return requests
}

func TestReportOn(t *testing.T) {
	began := time.Unix(1000, 0)
	gap := func(from, to, lost int) Gap {
		at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
		return Gap{From: at(from), To: at(to), Lost: lost}
	}
	for pattern, want := range map[string]Report{
		"":          {},
		"---":       {Before: 3},
		"...":       {Sent: 3},
		"--.-..---": {Before: 2, Sent: 7, Lost: 4, Gaps: []Gap{gap(3, 4, 1), gap(6, 9, 3)}},
		".--.":      {Sent: 4, Lost: 2, Gaps: []Gap{gap(1, 3, 2)}},
	} {
		require.Equal(t, want, reportOn(requestsOf(began, pattern), time.Millisecond), pattern)
	}
}

func TestDecided(t *testing.T) {
	young, old := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for _, test := range []struct {
		sent    time.Time
		stopped bool
		pattern string
		want    int
	}{
		{old, false, "-.-.-", 5},
		{young, true, "-.-.-", 5},
		{young, false, "-.-.-", 2},
		{young, false, "-.", 2},
		{young, false, "---", 3}, // nothing has answered yet
	} {
		c := Client{requests: requestsOf(test.sent, test.pattern), stopped: test.stopped}
		require.Len(t, c.decided(), test.want, "%+v", test)
	}
}
