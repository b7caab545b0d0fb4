package config

import (
	"fmt"
	"time"
)

// duration accepts lo to hi. The sentence bounds explains these limits to an operator.
func duration(lo, hi time.Duration, bounds string) func(string) (time.Duration, string) {
	return func(s string) (time.Duration, string) {
		d, err := time.ParseDuration(s)
		if seconds, missing := time.ParseDuration(s + "s"); missing == nil && (err != nil || s == "0") {
			unit := "s"
			if seconds > hi {
				unit = "ms"
			}
			return 0, fmt.Sprintf("%q has no unit. Did you mean %q?", s, s+unit)
		}
		switch {
		case err != nil:
			return 0, fmt.Sprintf("%q is not a duration. Write a number and its unit, h, m, s or ms, such as \"1m30s\".", s)
		case d < lo:
			return 0, fmt.Sprintf("%q is too short. %s", s, bounds)
		case d > hi:
			return 0, fmt.Sprintf("%q is too long. %s", s, bounds)
		}
		return d, ""
	}
}

var (
	// Consul's API documentation, "Create Session": "between 10s and 86400s".
	sessionTTL = duration(10*time.Second, 24*time.Hour, "Consul takes 10s to 24h.")
	interval   = duration(time.Second, time.Hour, "It takes 1s to 1h.")

	preemptDelay = duration(time.Second, time.Hour, "It takes 1s to 1h.")

	// A host answers within a millisecond, but below 5 ms the scheduler of an ordinary
	// busy host counts as a miss.
	hostCheckInterval = duration(5*time.Millisecond, time.Second, "It takes 5ms to 1s.")
)

// checkTTL also accepts "0s", which turns the check off.
func checkTTL(s string) (time.Duration, string) {
	const bounds = `It takes 2s to 1m, or "0s" for no check.`
	d, complaint := duration(0, time.Minute, bounds)(s)
	if d == 0 {
		return d, complaint
	}
	return duration(2*time.Second, time.Minute, bounds)(s)
}

// jitter accepts less than the interval, so that the next announcement always comes
// later.
func jitter(interval time.Duration) func(string) (time.Duration, string) {
	return duration(0, interval-1, fmt.Sprintf("It must be less than the interval, %s.", interval))
}

// leastDeadMan is the shortest lifetime of an address. It is refreshed every second.
// The address of an owner that was killed stays for the rest of its lifetime, and its
// lock is free once the check has expired and another instance has heard of that: an
// address that went sooner would have nobody meanwhile.
func leastDeadMan(check time.Duration) time.Duration {
	if check == 0 {
		return 2 * time.Second
	}
	return check + 2*time.Second
}

// deadMan accepts lifetimes that end before another instance can hold the lock. The hold
// deadline is a second before the session can expire.
func deadMan(consul Consul) func(string) (time.Duration, string) {
	least, limit := leastDeadMan(consul.CheckTTL), consul.SessionTTL-time.Second
	bounds := fmt.Sprintf("It takes 2s, because it is refreshed every second, to less than session_ttl - 1s, which is %s.", limit)
	if consul.CheckTTL > 0 {
		bounds = fmt.Sprintf("It takes check_ttl + 2s, which is %s, to less than session_ttl - 1s, which is %s. "+
			"A killed owner's address must stay until its lock is free.", least, limit)
	}
	inBounds := duration(least, limit-1, bounds)
	return func(s string) (time.Duration, string) {
		d, complaint := inBounds(s)
		if complaint == "" && d%time.Second != 0 {
			return 0, fmt.Sprintf("%q is not in whole seconds, which is what the kernel counts.", s)
		}
		return d, complaint
	}
}
