package health

import (
	"time"
)

const (
	// mostChanges within calmTime are what a check may change. One that changes more often
	// flaps: it is not fit until it has not changed for calmTime.
	mostChanges = 6
	calmTime    = time.Minute
)

// tally makes fitness of the results of runs. The zero value with rise and fall is ready to
// use, and not fit.
type tally struct {
	rise, fall int // runs in a row that make it fit, and not fit

	fit      bool
	row      int         // of runs whose result differs from fit
	runs     int         // since the beginning; counted no further than rise
	changes  []time.Time // of fit, within the last calmTime
	flapping bool
}

// add adds the result of a run.
func (t *tally) add(ok bool, now time.Time) {
	t.runs = min(t.runs+1, t.rise)
	if ok == t.fit {
		t.row = 0
	} else {
		t.row++
	}
	threshold := t.rise
	if t.fit {
		threshold = t.fall
	}
	for len(t.changes) > 0 && now.Sub(t.changes[0]) >= calmTime {
		t.changes = t.changes[1:]
	}
	if t.row >= threshold {
		t.fit, t.row = ok, 0
		t.changes = append(t.changes, now)
	}
	switch {
	case len(t.changes) > mostChanges:
		t.flapping = true
	case len(t.changes) == 0:
		t.flapping = false
	}
}

// known reports whether it has run as often as it takes to become fit.
func (t *tally) known() bool { return t.runs >= t.rise }
