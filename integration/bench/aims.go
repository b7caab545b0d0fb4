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

	// How many times shorter a planned stop is to be than the peers'.
	timesKeepalived = 200
	timesConsulLock = 10
)

// aim is one thing that consul-vip is to achieve.
type aim struct {
	what     string
	measured string
	met      bool
}

// aimsTable says which aims are met. What was not run is left out.
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

func aimsOf(all results) []aim {
	cell := func(p peer, scenario string) []result { return measured(all[key{p.name(), scenario}]) }
	ours := func(scenario string) []result { return cell(consulVIP{}, scenario) }
	var aims []aim
	if planned := ours("planned stop"); len(planned) > 0 {
		gap := spreadOf(planned, gapOf)
		aims = append(aims, aim{"planned stop: at most 3 ms in the median", gap.String() + " ms", gap.median <= plannedAim})
		for _, than := range []struct {
			peer  peer
			times int
		}{{keepalived{advert: time.Second}, timesKeepalived}, {consulLock{}, timesConsulLock}} {
			if theirs := cell(than.peer, "planned stop"); len(theirs) > 0 {
				aims = append(aims, shorter(gap.median, spreadOf(theirs, gapOf).median, than.peer.name(), than.times))
			}
		}
	}
	for _, scenario := range []string{"SIGKILL", "SIGSTOP", "cut-off from Consul"} {
		if unclean := ours(scenario); len(unclean) > 0 {
			gap, double := spreadOf(unclean, gapOf), spreadOf(unclean, doubleOf)
			aims = append(aims, aim{
				scenario + ": at most 75 ms in the median, never two owners",
				fmt.Sprintf("%s ms, two owners %s ms", gap, double),
				gap.median <= uncleanAim && double.worst == 0,
			})
		}
	}
	if foreign := ours("foreign ARP"); len(foreign) > 0 {
		unbound := spreadOf(foreign, reactionOf)
		// No reaction at all would be a zero.
		met := unbound.median > 0 && unbound.median <= reactionAim
		aims = append(aims, aim{"foreign ARP: unbound at most 1 ms after the frame, in the median", unbound.String() + " ms", met})
	}
	return aims
}

// shorter is the aim that a gap is so many times shorter than a peer's.
func shorter(ours, theirs time.Duration, peer string, times int) aim {
	a := aim{what: fmt.Sprintf("planned stop: %d times shorter than %s", times, peer), met: theirs >= ours*time.Duration(times)}
	if ours == 0 {
		a.measured = fmt.Sprintf("0 ms against %s ms", ms(theirs))
	} else {
		a.measured = fmt.Sprintf("%.1f times", float64(theirs)/float64(ours))
	}
	return a
}
