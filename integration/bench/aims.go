package main

import (
	"fmt"
	"strings"
	"time"
)

const (
	plannedAim  = 3 * time.Millisecond
	uncleanAim  = 75 * time.Millisecond
	reactionAim = time.Millisecond

	// A planned stop must be so many times shorter than with these peers.
	timesKeepalived = 200
	timesConsulLock = 10
)

// aim is one figure that consul-vip must reach.
type aim struct {
	what     string
	measured string
	met      bool
}

// aimsTable returns the table of the aims whose scenarios were run.
func aimsTable(all results) string {
	aims := aimsOf(all)
	if len(aims) == 0 {
		return "Not run.\n"
	}
	var b strings.Builder
	b.WriteString("| aim | measured | |\n| --- | --- | --- |\n")
	for _, a := range aims {
		verdict := "met"
		if !a.met {
			verdict = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", a.what, a.measured, verdict)
	}
	return b.String()
}

// aimsOf returns the aims whose scenarios were run.
func aimsOf(all results) []aim {
	aims := plannedAims(all)
	for _, scenario := range []string{"SIGKILL", "SIGSTOP", "cut-off from Consul"} {
		if unclean := all.of(consulVIP{}, scenario); len(unclean) > 0 {
			gap, double := spreadOf(unclean, gapOf), spreadOf(unclean, doubleOf)
			aims = append(aims, aim{
				scenario + ": at most 75 ms in the median, never two owners",
				fmt.Sprintf("%s ms, two owners %s ms", gap, double),
				gap.median <= uncleanAim && double.worst == 0,
			})
		}
	}
	if foreign := all.of(consulVIP{}, "foreign ARP"); len(foreign) > 0 {
		unbound := spreadOf(foreign, reactionOf)
		// A zero means that there was no reaction.
		met := unbound.median > 0 && unbound.median <= reactionAim
		aims = append(aims, aim{"foreign ARP: unbound at most 1 ms after the frame, in the median", unbound.String() + " ms", met})
	}
	return aims
}

// plannedAims returns the aims of a planned stop.
func plannedAims(all results) []aim {
	const scenario = "planned stop"
	planned := all.of(consulVIP{}, scenario)
	if len(planned) == 0 {
		return nil
	}
	gap := spreadOf(planned, gapOf)
	aims := []aim{{scenario + ": at most 3 ms in the median", gap.String() + " ms", gap.median <= plannedAim}}
	for _, than := range []struct {
		peer  peer
		times int
	}{{keepalived{advert: time.Second}, timesKeepalived}, {consulLock{}, timesConsulLock}} {
		if theirs := all.of(than.peer, scenario); len(theirs) > 0 {
			aims = append(aims, shorter(gap.median, spreadOf(theirs, gapOf).median, than.peer.name(), than.times))
		}
	}
	return aims
}

// shorter returns the aim that a gap is so many times shorter than a peer's.
func shorter(ours, theirs time.Duration, peer string, times int) aim {
	a := aim{what: fmt.Sprintf("planned stop: %d times shorter than %s", times, peer), met: theirs >= ours*time.Duration(times)}
	if ours == 0 {
		a.measured = fmt.Sprintf("0 ms against %s ms", ms(theirs))
	} else {
		a.measured = fmt.Sprintf("%.1f times", float64(theirs)/float64(ours))
	}
	return a
}
