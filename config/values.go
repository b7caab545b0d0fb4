package config

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/go-hclog"
)

// The functions of this file judge one value each. They return it checked, or
// a complaint: sentences that say what is wrong and what to write instead.

func anything[T any](v T) (T, string) { return v, "" }

// choice takes one of names, and suggests the nearest to another.
func choice[T ~string](names ...T) func(string) (T, string) {
	return func(s string) (T, string) {
		if name := T(s); slices.Contains(names, name) {
			return name, ""
		}
		var quoted []string
		hint := ""
		for _, name := range names {
			quoted = append(quoted, strconv.Quote(string(name)))
			if hint == "" && levenshtein.Distance(strings.ToLower(s), string(name), nil) < 3 {
				hint = fmt.Sprintf(" Did you mean %q?", name)
			}
		}
		return "", fmt.Sprintf("%q is none of %s.%s", s, strings.Join(quoted, ", "), hint)
	}
}

func logLevel(s string) (hclog.Level, string) {
	name, complaint := choice("trace", "debug", "info", "warn", "error")(s)
	return hclog.LevelFromString(name), complaint
}

func priority(n float64) (int, string) {
	if n < 0 || n > 1000 || n != math.Trunc(n) {
		return 0, fmt.Sprintf("%v is not a whole number from 0 (preferred) to 1000.", n)
	}
	return int(n), ""
}

// address takes an IPv4 unicast address with or without a prefix length.
func address(s string) (netip.Prefix, string) {
	prefix, err := netip.ParsePrefix(s)
	if !strings.Contains(s, "/") {
		var addr netip.Addr
		addr, err = netip.ParseAddr(s)
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if err != nil {
		return netip.Prefix{}, fmt.Sprintf("%q is not an IP address. Write one such as 10.77.0.100, or 10.77.0.100/24 with its prefix length.", s)
	}
	if complaint := unfit(prefix); complaint != "" {
		return netip.Prefix{}, fmt.Sprintf("%q %s", s, complaint)
	}
	return prefix, ""
}

// unfit says why p is nothing to float between hosts, "" if it is.
func unfit(p netip.Prefix) string {
	addr := p.Addr()
	switch {
	case addr.Is4In6():
		return fmt.Sprintf("is an IPv4 address in IPv6 notation. Did you mean %q?", addr.Unmap())
	case addr.Is6():
		return "is an IPv6 address, which this version does not support yet. Use an IPv4 address."
	case addr.As4()[0] == 0: // RFC 1122, section 3.2.1.3
		return "is an address of \"this network\", not of a host."
	case addr.IsLoopback():
		return "is a loopback address, which no other host can reach."
	case addr.IsMulticast():
		return "is a multicast address, not that of one host."
	case addr.As4() == [4]byte{255, 255, 255, 255}:
		return "is the broadcast address."
	case addr.IsLinkLocalUnicast(): // RFC 3927, section 1.6
		return "is a link-local address, which any host may choose for itself. Use one of the subnet that the hosts share."
	case p.Bits() < 8:
		return fmt.Sprintf("has the prefix length %d, which is no subnet. Leave it out for /32.", p.Bits())
	}
	return reserved(p)
}

// reserved says which address of its own subnet p is, "" if it is a host's.
// Subnets of /31 have no other (RFC 3021).
func reserved(p netip.Prefix) string {
	if p.Bits() > 30 {
		return ""
	}
	network := p.Masked()
	broadcast := network.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		broadcast[bit/8] |= 0x80 >> (bit % 8)
	}
	switch p.Addr() {
	case network.Addr():
		return fmt.Sprintf("is the network address of %s, not that of a host.", network)
	case netip.AddrFrom4(broadcast):
		return fmt.Sprintf("is the broadcast address of %s.", network)
	}
	return ""
}

// interfaceName takes what Linux takes, at most 15 bytes of it (IFNAMSIZ).
func interfaceName(s string) (string, string) {
	bad := strings.IndexFunc(s, func(r rune) bool {
		return r == '/' || r == ':' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
	switch {
	case s == "":
		return "", "The name is empty. Leave the key out for the interface whose subnet contains the address."
	case len(s) > 15:
		return "", fmt.Sprintf("%q has %d characters; an interface name has at most 15.", s, len(s))
	case s == "." || s == ".." || bad >= 0:
		return "", fmt.Sprintf("%q is not an interface name, such as eth0 or bond0.100.", s)
	}
	return s, ""
}

// segment is what may stand between two slashes of a key.
var segment = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func isSegment(s string) bool { return segment.MatchString(s) && s != "." && s != ".." }

func isLetterOrDigit(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func nodeName(s string) (string, string) {
	switch {
	case s == "":
		return "", "The name is empty. Leave the key out for the node name of the local Consul agent."
	case len(s) > 253 || !isSegment(s) || !strings.ContainsFunc(s, isLetterOrDigit):
		// A bare dash means nobody, where a node is named in Consul.
		return "", fmt.Sprintf("%q is not a node name: letters, digits, dots, dashes and underscores, at least one letter or digit.", s)
	}
	return s, ""
}

func keyPrefix(s string) (string, string) {
	// Consul's ACL rules spell it with the slash, so take it with one too.
	clean := strings.TrimSuffix(strings.TrimPrefix(s, "/"), "/")
	for part := range strings.SplitSeq(clean, "/") {
		if !isSegment(part) {
			return "", fmt.Sprintf("%q is not a key prefix: parts of letters, digits, dots, dashes and underscores, with one slash between two of them, such as \"infra/consul-vip\".", s)
		}
	}
	return clean, ""
}

// label is a DNS label, because Consul answers DNS queries for a service.
var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func serviceName(s string) (string, string) {
	if !label.MatchString(s) {
		return "", fmt.Sprintf("%q is not a service name that Consul's DNS can answer for: at most 63 letters, digits and dashes.", s)
	}
	return s, ""
}

func filename(s string) (string, string) {
	if strings.TrimSpace(s) == "" {
		return "", "The file name is empty. Leave the key out to use CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE."
	}
	return s, ""
}

// agentAddress takes what Consul's own client takes.
func agentAddress(s string) (string, string) {
	complaint := fmt.Sprintf("%q is not the address of a Consul agent, such as 127.0.0.1:8500, https://consul.example.com:8501 or unix:///run/consul.sock.", s)
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "http", s
	}
	switch scheme {
	case "unix":
		if strings.HasPrefix(rest, "/") {
			return s, ""
		}
	case "http", "https":
		u, err := url.Parse("http://" + rest)
		if err == nil && u.Hostname() != "" && u.User == nil && u.RawQuery == "" && validPort(u.Host, u.Port()) {
			return s, ""
		}
	}
	return "", complaint
}

// validPort is whether port, of host, is left out or one that can be dialled.
func validPort(host, port string) bool {
	if port == "" {
		return !strings.HasSuffix(host, ":")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// duration takes lo to hi. bounds, a sentence, tells an operator about them.
func duration(lo, hi time.Duration, bounds string) func(string) (time.Duration, string) {
	return func(s string) (time.Duration, string) {
		d, err := time.ParseDuration(s)
		if _, missing := time.ParseDuration(s + "s"); missing == nil && (err != nil || s == "0") {
			return 0, fmt.Sprintf("%q has no unit. Did you mean %q?", s, s+"s")
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
)

// checkTTL takes "0s" as well, which turns the check off.
func checkTTL(s string) (time.Duration, string) {
	const bounds = `It takes 2s to 1m, or "0s" for no check.`
	d, complaint := duration(0, time.Minute, bounds)(s)
	if d == 0 {
		return d, complaint
	}
	return duration(2*time.Second, time.Minute, bounds)(s)
}

// jitter must leave some interval.
func jitter(interval time.Duration) func(string) (time.Duration, string) {
	return duration(0, interval-1, fmt.Sprintf("It must be less than the interval, %s.", interval))
}

// deadMan must end before another instance may hold the lock. The hold ends a
// second before the session may.
func deadMan(session time.Duration) func(string) (time.Duration, string) {
	limit := session - time.Second
	inBounds := duration(2*time.Second, limit-1,
		fmt.Sprintf("It takes 2s, because it is refreshed every second, to less than session_ttl - 1s, which is %s.", limit))
	return func(s string) (time.Duration, string) {
		d, complaint := inBounds(s)
		if complaint == "" && d%time.Second != 0 {
			return 0, fmt.Sprintf("%q is not in whole seconds, which is what the kernel counts.", s)
		}
		return d, complaint
	}
}
