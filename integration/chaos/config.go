package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// keys are those of every instance: the configuration does not set a prefix.
const keys = lab.DefaultKeys

// hosts and vips are the numbers of hosts and addresses.
const (
	hosts = 3
	vips  = 10
)

// none is not the number of any address.
const none = -1

// vipOf returns an address by its number. The families alternate, so that each has
// addresses with all settings.
func vipOf(i int) netip.Addr {
	if i%2 == 0 {
		return netip.AddrFrom4([4]byte{10, 77, 1, byte(1 + i)})
	}
	a := lab.Subnet6.Addr().As16()
	a[13], a[15] = 1, byte(1+i)
	return netip.AddrFrom16(a)
}

// allVIPs returns all addresses, by their numbers.
func allVIPs() []netip.Addr {
	var all []netip.Addr
	for i := range vips {
		all = append(all, vipOf(i))
	}
	return all
}

// configuration returns the configuration of every instance, without one of the
// addresses. The addresses differ in their settings, so that one run tries them all.
func configuration(without int) string {
	var b strings.Builder
	b.WriteString("log_level = \"debug\"\nlog_json = true\nconsul {\n  session_ttl = \"10s\"\n  check_ttl = \"3s\"\n}\n")
	for i, vip := range allVIPs() {
		if i != without {
			fmt.Fprintf(&b, "vip %q {\n  %s\n}\n", vip, settings(i))
		}
	}
	return b.String()
}

// settings returns the lines in the block of an address.
func settings(i int) string {
	switch {
	case i < 4: // the defaults
		return ""
	case i < 6:
		return "preempt = true\n  preempt_delay = \"2s\""
	case i < 8:
		return `on_loss = "contend"`
	case i < 9:
		return `on_conflict = "defend"`
	}
	return "dead_man = \"8s\"\n  announce { interval = \"1s\" }"
}
