package config

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Defaults of a check block.
const (
	DefaultCheckInterval = time.Second
	DefaultCheckTimeout  = 500 * time.Millisecond
	DefaultRise          = 3
	DefaultFall          = 2
	DefaultWhenNoneFit   = NoneFitKeep
)

// Check is a check of a service on this host, which addresses may require. Exactly one
// of HTTP, TCP, Command and Service is set.
type Check struct {
	Name string

	// HTTP is a URL to get. A status of 2xx is fit, unless ExpectStatus or ExpectText says
	// otherwise. Redirects are not followed.
	HTTP          string
	Header        map[string]string
	TLSSkipVerify bool
	ExpectStatus  int    // 0: any of 2xx
	ExpectText    string // in the body; empty: whatever it is

	TCP     string   // host:port to connect to
	Command []string // a program and its arguments, without a shell; exit code 0 is fit
	Service string   // the local Consul agent's health of this service

	// Interval is the time between two runs, 100ms to 1h, and Timeout, which is less, how
	// long one may take.
	Interval time.Duration
	Timeout  time.Duration
	// Rise and Fall are how many runs in a row, 1 to 100, must succeed before the service
	// is fit, and fail before it is not. The default of a Service is 1: its checks in Consul
	// have thresholds of their own.
	Rise int
	Fall int
}

// WhenNoneFit selects what becomes of an address if no member is fit for it.
type WhenNoneFit string

// With NoneFitKeep, members that are not fit contend as well, behind all others.
const (
	NoneFitKeep    WhenNoneFit = "keep"    // the owner serves on
	NoneFitRelease WhenNoneFit = "release" // nobody has it
)

// check checks a check block.
func (c *checker) check(raw rawCheck) Check {
	check := Check{Name: raw.Name}
	c.name(raw.Name, raw.NameRange)
	check.HTTP = value(c, raw.HTTP, "", httpURL)
	check.TCP = value(c, raw.TCP, "", hostPort)
	check.Command = value(c, raw.Command, nil, command)
	check.Service = value(c, raw.Service, "", serviceName)
	c.oneTarget(raw)
	rise, fall := DefaultRise, DefaultFall
	if isSet(raw.Service) {
		rise, fall = 1, 1 // Consul's own checks have their own thresholds
	}
	check.Interval = value(c, raw.Interval, DefaultCheckInterval, checkInterval)
	check.Timeout = value(c, raw.Timeout, min(DefaultCheckTimeout, check.Interval/2), checkTimeout(check.Interval))
	check.Rise = value(c, raw.Rise, rise, runs)
	check.Fall = value(c, raw.Fall, fall, runs)
	if !isSet(raw.HTTP) {
		c.needless("It belongs to http.", raw.Header, raw.TLSSkipVerify, raw.Expect)
		return check
	}
	check.Header = value(c, raw.Header, nil, header)
	check.TLSSkipVerify = value(c, raw.TLSSkipVerify, false, unchecked[bool])
	expected := value(c, raw.Expect, "", expect)
	if status, err := strconv.Atoi(expected); err == nil && 100 <= status && status <= 599 {
		check.ExpectStatus = status
	} else {
		check.ExpectText = expected
	}
	return check
}

// name checks the name of a block.
func (c *checker) name(name string, at hcl.Range) {
	if !isSegment(name) {
		c.report("Invalid name", at, fmt.Sprintf("%q is not a name: letters, digits, dots, dashes and underscores.", name))
	}
}

// again reports a block with the name of an earlier one of its kind, and notes the first.
func (c *checker) again(kind, name string, at hcl.Range, seen map[string]hcl.Range) bool {
	before, again := seen[name]
	if again {
		c.report("Name given twice", at, fmt.Sprintf("There is a %s %q already, at %s.", kind, name, position(before)))
	} else {
		seen[name] = at
	}
	return again
}

// oneTarget reports a check that has none of the four targets, or several.
func (c *checker) oneTarget(raw rawCheck) {
	var given []*hcl.Attribute
	for _, a := range []*hcl.Attribute{raw.HTTP, raw.TCP, raw.Command, raw.Service} {
		if isSet(a) {
			given = append(given, a)
		}
	}
	switch {
	case len(given) == 0:
		c.report("Missing target", raw.NameRange, "Say what to check: http, tcp, command or service.")
	case len(given) > 1:
		c.report("Several targets", given[1].NameRange,
			fmt.Sprintf("The check has %s already, at %s. Use one check block for each.", given[0].Name, position(given[0].NameRange)))
	}
}

// needless reports keys that have no effect. A variable is a default for all blocks, so it
// may have none in some.
func (c *checker) needless(why string, attributes ...*hcl.Attribute) {
	for _, a := range attributes {
		if isSet(a) && !isVariable(a.NameRange) {
			c.report("Needless "+a.Name, a.NameRange, why+" Leave the key out.")
		}
	}
}

// checks checks all check blocks and what refers to them.
func (c *checker) checks(raw []rawCheck, vips []rawVIP, cfg *Config) {
	at := map[string]hcl.Range{}
	for _, r := range raw {
		check := c.check(r)
		if c.again("check", r.Name, r.NameRange, at) {
			continue
		}
		c.notThroughVIP(r, check, cfg.VIPs)
		cfg.Checks = append(cfg.Checks, check)
	}
	for i, vip := range cfg.VIPs {
		for _, name := range vip.Require {
			if _, known := at[name]; !known {
				c.report("Unknown check", vips[i].Require.Expr.Range(), fmt.Sprintf("There is no check %q.%s", name, suggestion(name, slices.Sorted(maps.Keys(at)))))
			}
		}
	}
}

// notThroughVIP reports a check that looks through a floating address: it would say
// something of the owner, not of this host.
func (c *checker) notThroughVIP(raw rawCheck, check Check, vips []VIP) {
	target, attribute := check.TCP, raw.TCP
	if u, err := url.Parse(check.HTTP); err == nil && check.HTTP != "" {
		target, attribute = u.Host, raw.HTTP
	}
	host := target
	if h, _, ok := strings.Cut(strings.TrimPrefix(target, "["), "]"); ok {
		host = h
	} else if h, _, ok := strings.Cut(target, ":"); ok {
		host = h
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return
	}
	for _, v := range vips {
		if v.Addr() == addr.Unmap() {
			c.report("Invalid "+attribute.Name, attribute.Expr.Range(), fmt.Sprintf(
				"%s is a floating address: its owner would answer, on whichever host that is. Check this host's own service, for example at 127.0.0.1.", addr))
		}
	}
}

// checkNames accepts names of checks, each once.
func checkNames(names []string) ([]string, string) {
	if len(names) == 0 {
		return nil, ""
	}
	seen := map[string]bool{}
	for _, name := range names {
		if seen[name] {
			return nil, fmt.Sprintf("%q is there twice.", name)
		}
		seen[name] = true
	}
	return names, ""
}

var checkInterval = duration(100*time.Millisecond, time.Hour, "It takes 100ms to 1h.")

// checkTimeout accepts less than the interval, so that runs never overlap.
func checkTimeout(interval time.Duration) func(string) (time.Duration, string) {
	return duration(time.Millisecond, interval-1, fmt.Sprintf("It takes 1ms to less than the interval, %s.", interval))
}

func runs(n float64) (int, string) {
	if n < 1 || n > 100 || n != math.Trunc(n) {
		return 0, fmt.Sprintf("%v is not a whole number from 1 to 100.", n)
	}
	return int(n), ""
}

func httpURL(s string) (string, string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !validPort(u.Host, u.Port()) {
		return "", fmt.Sprintf("%q is not an HTTP URL, such as http://127.0.0.1:8080/ping.", s)
	}
	return s, ""
}

func hostPort(s string) (string, string) {
	u, err := url.Parse("tcp://" + s)
	if err != nil || u.Host != s || u.Hostname() == "" || u.Port() == "" || !validPort(u.Host, u.Port()) {
		return "", fmt.Sprintf("%q is not a host and a port, such as 127.0.0.1:443 or [::1]:443.", s)
	}
	return s, ""
}

// command accepts a program with its arguments. There is no shell to split a line.
func command(args []string) ([]string, string) {
	if len(args) == 0 || strings.TrimSpace(args[0]) == "" {
		return nil, `The list is empty. Write the program and its arguments, such as ["/usr/local/bin/ok", "-q"].`
	}
	if len(args) == 1 && strings.Contains(args[0], " ") {
		return nil, fmt.Sprintf("%q has a space, and there is no shell to split it. Write each argument by itself.", args[0])
	}
	return args, ""
}

func header(h map[string]string) (map[string]string, string) {
	for name := range h {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isLetterOrDigit(r) && r != '-' && r != '_' }) {
			return nil, fmt.Sprintf("%q is not the name of an HTTP header.", name)
		}
	}
	return h, ""
}

func expect(s string) (string, string) {
	if s == "" {
		return "", "It is empty. Write a status such as 204, or a text that the answer must contain."
	}
	return s, ""
}
