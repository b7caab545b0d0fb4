package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/consul-vip/consul-vip/lease"
)

const nobody = "nobody"

// who has the address now.
func who(o lease.Outcome) string {
	switch o.State {
	case lease.StatusHeld:
		return o.Node
	case lease.StatusForeign:
		return "another program"
	}
	return nobody
}

// change tells who had the address, who has it now, and how long that took.
func change(o lease.Outcome) string {
	from, to := cmp.Or(o.From, nobody), who(o)
	if from == to {
		return fmt.Sprintf("%s: %s has it", o.VIP, to)
	}
	return fmt.Sprintf("%s: %s -> %s in %s", o.VIP, from, to, taken(o.Took))
}

// taken is a time as people want to read it.
func taken(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
