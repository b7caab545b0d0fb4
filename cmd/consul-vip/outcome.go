package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/consul-vip/consul-vip/lease/operator"
	"github.com/consul-vip/consul-vip/lease/state"
)

const nobody = "nobody"

// transition is a sentence about the owner of an address before and after a
// command, and the time between.
func transition(o operator.Outcome) string {
	from, to := cmp.Or(o.From, nobody), owner(o)
	if from == to {
		return fmt.Sprintf("%s: %s", o.VIP, ownership(o))
	}
	return fmt.Sprintf("%s: %s -> %s in %s", o.VIP, from, to, formatDuration(o.Took))
}

// owner names the owner of an address after a command.
func owner(o operator.Outcome) string {
	switch o.State {
	case state.StatusHeld:
		return o.Node
	case state.StatusForeign:
		return "another program"
	case state.StatusUnknown:
		return "unknown"
	}
	return nobody
}

// ownership is a sentence about the owner of an address after a command.
func ownership(o operator.Outcome) string {
	switch o.State {
	case state.StatusHeld:
		return o.Node + " holds it"
	case state.StatusForeign:
		return "another program holds its lock"
	case state.StatusUnknown:
		return "its lock cannot be read"
	}
	return "no node holds it"
}

// formatDuration gives a duration in milliseconds, and from one second on in
// seconds.
func formatDuration(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
