package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// DefaultHookTimeout is the timeout of a hook block that leaves it out.
const DefaultHookTimeout = 5 * time.Second

// Hook is a program that is run on events of addresses.
type Hook struct {
	Name string
	// On are the events, at least one.
	On      []HookEvent
	Command []string // a program and its arguments, without a shell
	// Timeout is how long a run may take, 100ms to 5m.
	Timeout time.Duration
	// VIPs are the addresses whose events count; empty: all.
	VIPs []netip.Addr
}

// HookEvent is something that happens to an address on this host.
type HookEvent string

// All but HookPreRelease tell of something that has happened.
const (
	HookAcquired   HookEvent = "acquired"    // this host serves the address
	HookPreRelease HookEvent = "pre_release" // it is about to leave the address to another, on purpose
	HookReleased   HookEvent = "released"    // it has left it, on purpose
	HookLost       HookEvent = "lost"        // it has left it, because it lost the lock, the session, the link or the address
	HookConflict   HookEvent = "conflict"    // it has left it, because another station has it
	HookUnfit      HookEvent = "unfit"       // a service that the address requires is not fit here
	HookFit        HookEvent = "fit"         // all of them are
)

// Concerns reports whether the hook is run on an event of an address.
func (h Hook) Concerns(e HookEvent, addr netip.Addr) bool {
	return slices.Contains(h.On, e) && (len(h.VIPs) == 0 || slices.Contains(h.VIPs, addr))
}

// hooks checks all hook blocks.
func (c *checker) hooks(raw []rawHook, cfg *Config) {
	at := map[string]hcl.Range{}
	for _, r := range raw {
		hook := c.hook(r, cfg.VIPs)
		if c.again("hook", r.Name, r.NameRange, at) {
			continue
		}
		cfg.Hooks = append(cfg.Hooks, hook)
	}
}

// hook checks a hook block.
func (c *checker) hook(raw rawHook, vips []VIP) Hook {
	c.name(raw.Name, raw.NameRange)
	for _, key := range []struct {
		name string
		attr *hcl.Attribute
	}{{"on", raw.On}, {"command", raw.Command}} {
		if !isSet(key.attr) {
			c.report("Missing "+key.name, raw.NameRange, `A hook says when to run what, for example: on = ["acquired"] and command = ["/etc/consul-vip/notify.sh"].`)
		}
	}
	return Hook{
		Name:    raw.Name,
		On:      value(c, raw.On, nil, hookEvents),
		Command: value(c, raw.Command, nil, command),
		Timeout: value(c, raw.Timeout, DefaultHookTimeout, hookTimeout),
		VIPs:    value(c, raw.VIPs, nil, addressesOf(vips)),
	}
}

var hookTimeout = duration(100*time.Millisecond, 5*time.Minute, "It takes 100ms to 5m.")

var hookEvent = choice(HookAcquired, HookPreRelease, HookReleased, HookLost, HookConflict, HookUnfit, HookFit)

// hookEvents accepts names of events, each once.
func hookEvents(names []string) (events []HookEvent, complaint string) {
	if len(names) == 0 {
		return nil, "The list is empty, so the hook would never run."
	}
	for _, name := range names {
		event, complaint := hookEvent(name)
		switch {
		case complaint != "":
			return nil, complaint
		case slices.Contains(events, event):
			return nil, fmt.Sprintf("%q is there twice.", name)
		}
		events = append(events, event)
	}
	return events, ""
}

// addressesOf accepts addresses that have a vip block.
func addressesOf(vips []VIP) func([]string) ([]netip.Addr, string) {
	return func(texts []string) (addrs []netip.Addr, complaint string) {
		if len(texts) == 0 {
			return nil, "The list is empty, so the hook would never run. Leave the key out for all addresses."
		}
		for _, text := range texts {
			prefix, complaint := address(text)
			switch {
			case complaint != "":
				return nil, complaint
			case strings.Contains(text, "/"):
				return nil, fmt.Sprintf("%q has a prefix length. Write the address alone.", text)
			case !slices.ContainsFunc(vips, func(v VIP) bool { return v.Addr() == prefix.Addr() }):
				return nil, fmt.Sprintf("%s has no vip block.", text)
			}
			addrs = append(addrs, prefix.Addr())
		}
		return addrs, ""
	}
}
