package config

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// agentAddress accepts the addresses that Consul's own client accepts.
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

// validPort reports whether the port is left out or can be dialled. host still contains
// it.
func validPort(host, port string) bool {
	if port == "" {
		return !strings.HasSuffix(host, ":")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
