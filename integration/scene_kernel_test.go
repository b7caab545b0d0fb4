package integration

// The events that the kernel of a host reports about addresses.

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// monitor starts to record the events about the addresses of a host. The host must
// have one of them: the owner refreshes its lifetime every second, so an event
// proves that the recording has begun.
func (s *scene) monitor(h *lab.Host) *lab.Process {
	s.t.Helper()
	p := s.launch(h, "ip monitor", lab.Command{Args: []string{"ip", "-oneline", "monitor", "address"}})
	s.await(condition{"a first event from the kernel of " + h.Name, func() error {
		for _, vip := range s.vips {
			if len(eventsOf(p, vip)) > 0 {
				return nil
			}
		}
		return errors.New("none")
	}})
	return p
}

// eventsOf returns the lines about an address.
func eventsOf(events *lab.Process, vip netip.Addr) (lines []string) {
	for line := range strings.Lines(events.String()) {
		if strings.Contains(line, vip.String()+"/") {
			lines = append(lines, line)
		}
	}
	return lines
}

// removed is met if an address was removed since monitor, or if it was not.
func removed(events *lab.Process, vip netip.Addr, want bool) condition {
	expected := fmt.Sprintf("%s removed from %s", vip, events.Host.Name)
	if !want {
		expected = fmt.Sprintf("%s never removed from %s", vip, events.Host.Name)
	}
	return condition{expected, func() error {
		lines := eventsOf(events, vip)
		for _, line := range lines {
			if strings.HasPrefix(line, "Deleted") {
				if want {
					return nil
				}
				return errors.New(line)
			}
		}
		if want {
			return fmt.Errorf("the events %q", lines)
		}
		return nil
	}}
}

// validLifetime finds the lifetime in an event.
var validLifetime = regexp.MustCompile(` valid_lft (\d+)sec`)

// longestLifetime returns the longest lifetime that an address was given since monitor.
func longestLifetime(events *lab.Process, vip netip.Addr) (longest time.Duration) {
	for _, line := range eventsOf(events, vip) {
		if m := validLifetime.FindStringSubmatch(line); m != nil {
			seconds, _ := strconv.Atoi(m[1])
			longest = max(longest, time.Duration(seconds)*time.Second)
		}
	}
	return longest
}
