package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// interfaceName accepts the names that Linux accepts, at most 15 bytes (IFNAMSIZ).
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

// segment matches the part of a key between two slashes.
var segment = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func isSegment(s string) bool { return segment.MatchString(s) && s != "." && s != ".." }

func isLetterOrDigit(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func nodeName(s string) (string, string) {
	switch {
	case s == "":
		return "", "The name is empty. Leave the key out for the node name of the local Consul agent."
	case len(s) > 253 || !isSegment(s) || !strings.ContainsFunc(s, isLetterOrDigit):
		// In the pin of an address a bare dash means that no node may own it.
		return "", fmt.Sprintf("%q is not a node name: letters, digits, dots, dashes and underscores, at least one letter or digit.", s)
	}
	return s, ""
}

func keyPrefix(s string) (string, string) {
	// ACL rules contain the prefix with a slash at its end, so accept it here as well.
	clean := strings.TrimSuffix(strings.TrimPrefix(s, "/"), "/")
	for part := range strings.SplitSeq(clean, "/") {
		if !isSegment(part) {
			return "", fmt.Sprintf("%q is not a key prefix: parts of letters, digits, dots, dashes and underscores, with one slash between two of them, such as \"infra/consul-vip\".", s)
		}
	}
	return clean, ""
}

// label matches a DNS label, because Consul answers DNS queries for a service.
var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func serviceName(s string) (string, string) {
	if !label.MatchString(s) {
		return "", fmt.Sprintf("%q is not a service name that Consul's DNS can answer for: at most 63 letters, digits and dashes.", s)
	}
	return s, ""
}

// longestSocket is the longest path of a unix socket: sun_path has 108 bytes with the zero
// at its end.
const longestSocket = 107

// socketPath also accepts an empty text, which turns the socket off.
func socketPath(s string) (string, string) {
	switch {
	case s == "":
		return "", ""
	case len(s) > longestSocket:
		return "", fmt.Sprintf("%q has %d bytes; the path of a socket has at most %d.", s, len(s), longestSocket)
	case !filepath.IsAbs(s) || strings.HasSuffix(s, "/") || strings.ContainsFunc(s, unicode.IsControl):
		return "", fmt.Sprintf("%q is not the absolute path of a socket, such as %q. Write \"\" for no socket.", s, DefaultSocket)
	}
	return filepath.Clean(s), ""
}

func filename(s string) (string, string) {
	if strings.TrimSpace(s) == "" {
		return "", "The file name is empty. Leave the key out to use CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE."
	}
	return s, ""
}
