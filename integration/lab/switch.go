package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// lossRules drops a share of the frames that leave each of some ports. Every copy of a
// broadcast frame is a frame of its own.
const lossRules = `table bridge loss
delete table bridge loss
table bridge loss {
	chain forward {
		type filter hook forward priority 0
		oifname { %s } numgen random mod 100 < %d drop
	}
}
`

// Lose makes the switch of the floating addresses lose this percentage of all frames, by
// chance. With 0 it loses none.
func (l *Lab) Lose(ctx context.Context, percent int) error {
	if percent == 0 {
		return l.segment.filter(ctx, "table bridge loss\ndelete table bridge loss\n")
	}
	ports, err := l.segment.portsOf(l.segment.bridge)
	if err != nil {
		return err
	}
	return l.segment.filter(ctx, fmt.Sprintf(lossRules, strings.Join(ports, ", "), percent))
}

// querySeconds is how often a switch that snoops asks hosts which groups they are in, and how
// long they may take to answer. The switch passes all frames until then.
const querySeconds = 1

// Snoop makes the switch of the floating addresses pass the frames to a multicast group
// only to hosts that have told it that they are in the group (RFC 4541), and ask for that
// itself, or to all hosts again. It does not wait for the hosts.
func (l *Lab) Snoop(ctx context.Context, on bool) error {
	value := map[bool]string{false: "0", true: "1"}[on]
	interval := fmt.Sprint(querySeconds * 100) // in hundredths of a second
	// The kernel uses the intervals that it has when the other settings change.
	for _, settings := range [][]string{
		{"mcast_query_response_interval", interval, "mcast_startup_query_interval", interval, "mcast_query_interval", interval},
		{"mcast_snooping", value, "mcast_querier", value},
	} {
		args := append([]string{"ip", "link", "set", l.segment.bridge.Name, "type", "bridge"}, settings...)
		if _, err := l.segment.wire.command(ctx, "the switch", l.segment.dir, Command{Args: args}); err != nil {
			return err
		}
	}
	return nil
}

// filter changes the firewall of the switches by nftables rules, as "nft -f" does.
func (s *segment) filter(ctx context.Context, rules string) error {
	_, err := s.wire.command(ctx, "the switch", s.dir, Command{Args: []string{"nft", "-f", "-"}, Stdin: strings.NewReader(rules)})
	return err
}

// portsOf returns the quoted names of a bridge's ports.
func (s *segment) portsOf(bridge *netlink.Bridge) (names []string, err error) {
	links, err := s.wireNl.LinkList()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		if link.Attrs().MasterIndex == bridge.Attrs().Index {
			names = append(names, fmt.Sprintf("%q", link.Attrs().Name))
		}
	}
	return names, nil
}

// SetSwitch turns the switch of the floating addresses off or on again. While it is off,
// it passes no frame, but every cable keeps its carrier.
func (l *Lab) SetSwitch(on bool) error {
	if on {
		return l.segment.wireNl.LinkSetUp(l.segment.bridge)
	}
	return l.segment.wireNl.LinkSetDown(l.segment.bridge)
}

// States of a bridge's port (linux/if_bridge.h).
const (
	portDisabled   = 0
	portForwarding = 3
)

// Stall stops the host as a hypervisor stops a virtual machine: its processes, and its
// kernel, as others see it, because no frame passes in either direction. Its cables keep
// their carriers, and its clocks go on. Resume undoes it.
func (h *Host) Stall() error {
	return errors.Join(h.setPorts(portDisabled), h.signalAll(syscall.SIGSTOP))
}

// Resume undoes Stall.
func (h *Host) Resume() error {
	return errors.Join(h.setPorts(portForwarding), h.signalAll(syscall.SIGCONT))
}

// signalAll sends a signal to every process that was started on the host.
func (h *Host) signalAll(sig syscall.Signal) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, p := range h.processes {
		if err := p.Signal(sig); !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// setPorts sets the state of the bridges' ports to which the host's cables lead. That
// takes microseconds, unlike a change of the firewall.
func (h *Host) setPorts(state byte) error {
	ifnames := []string{serviceInterface}
	if h.consulMAC != nil {
		ifnames = append(ifnames, ConsulInterface)
	}
	var errs []error
	for _, ifname := range ifnames {
		link, err := h.nl.LinkByName(ifname)
		if err == nil {
			err = h.segment.wire.do(func() error { return setPort(link.Attrs().ParentIndex, state) })
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// setPort sets the state of a bridge's port. It must run in the bridge's namespace.
func setPort(index int, state byte) error {
	request := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_BRIDGE)
	message.Index = int32(index)
	request.AddData(message)
	port := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	port.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{state})
	request.AddData(port)
	// A port whose cable is out cannot forward. It will when it gets its cable back.
	if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.ENETDOWN) {
		return fmt.Errorf("state of a port: %w", err)
	}
	return nil
}
