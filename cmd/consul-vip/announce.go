package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/announce"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/netif"
)

type announceCommand struct{ stderr io.Writer }

func (*announceCommand) Synopsis() string { return "Announce an address without Consul" }

func (c *announceCommand) Help() string {
	return help("announce -ip=ADDRESS[/LENGTH] [options]", `
  Binds an address and announces it until SIGTERM or SIGINT, without Consul: by
  gratuitous ARP, or for IPv6 by unsolicited neighbor advertisements. Then the
  address is gone, also from a process that was killed: the kernel removes it
  within 4 s.

  It begins only if no other station answers for the address, and ends if another
  one claims it. Of two instances that run at the same time the one with the
  higher MAC ends. The first five announcements follow within 4.4 s, then one
  comes every interval.

  Durations are such as 10s or 500ms; a bare number is in seconds.

  Exit codes: 0 stopped, all announcements sent, or -watch=quit and another
  station has the address, 1 failure, 2 usage, 5 another station has the address.`, c.flags(nil).FlagSet)
}

// announceFlags are the flags of the command, before they are checked.
type announceFlags struct {
	*flag.FlagSet
	ip, iface, mac, target, watch, logLevel    string
	interval, delay, jitter, watchDelay, wait  seconds
	request, reply, unmanaged, immediately     bool
	dieIfExists, removePreExisting, once, json bool
	count                                      int
}

func (c *announceCommand) flags(out io.Writer) *announceFlags {
	f := &announceFlags{FlagSet: flagSet("announce", out), interval: seconds(10 * time.Second)}
	f.StringVar(&f.ip, "ip", "", "the `address` to announce, with the prefix length to bind it with; without one /32 or /128")
	f.StringVar(&f.iface, "interface", "", "`name` of the interface (default: the one in whose subnet the address is)")
	f.StringVar(&f.mac, "mac", "", "`MAC` to announce the address for (default: that of the interface)")
	f.StringVar(&f.target, "target", "", "`MAC` of the only station to tell (default: all stations)")
	f.Var(&f.interval, "interval", "`duration` between two announcements")
	f.Var(&f.delay, "delay", "`duration` to wait before anything is done")
	f.Var(&f.jitter, "jitter", "`duration` by which an interval may be shorter or longer (default 1s, or a tenth of a shorter interval than 10s)")
	f.StringVar(&f.watch, "watch", string(announce.WatchFail), "what to do if another station has the address: fail (exit 5), quit (exit 0), log, or no (do not look)")
	f.Var(&f.watchDelay, "watch-delay", "`duration` after the first announcement until which claims of other stations do not matter")
	f.BoolVar(&f.immediately, "watch-immediately", false, "watch from the start, also during -delay")
	f.Var(&f.wait, "wait", "`duration` that another station has to let the address go before this one begins")
	f.BoolVar(&f.request, "arp-request", false, "announce by gratuitous ARP requests (default: by both)")
	f.BoolVar(&f.reply, "arp-reply", false, "announce by gratuitous ARP replies (default: by both)")
	f.BoolVar(&f.unmanaged, "unmanaged-ip", false, "neither bind nor unbind the address")
	f.BoolVar(&f.dieIfExists, "die-if-ip-exists", false, "exit 1 if the interface has the address already; else it is announced and left as it is")
	f.BoolVar(&f.removePreExisting, "remove-pre-existing-ip", false, "unbind the address in the end, even if another program has bound it")
	f.IntVar(&f.count, "count", 0, "exit 0 after this `number` of announcements (default: no end)")
	f.BoolVar(&f.once, "once", false, "the same as -count=1 -delay=0 -jitter=0 -watch=no")
	f.StringVar(&f.logLevel, "log-level", "info", "trace, debug, info, warn or error")
	f.BoolVar(&f.json, "log-json", false, "log JSON")
	return f
}

func (c *announceCommand) Run(args []string) int {
	f := c.flags(c.stderr)
	if err := parse(f.FlagSet, args); err != nil {
		return exitCode(err)
	}
	o, err := f.options(c.stderr)
	if err != nil {
		return report(c.stderr, err)
	}
	ctx, stop := untilStopSignal()
	defer stop()
	return report(c.stderr, announceUntil(ctx, o))
}

// announceUntil runs the announcer. An interface that does not exist is a mistake in the
// command line.
func announceUntil(ctx context.Context, o announce.Options) error {
	err := announce.Run(ctx, o)
	if errors.Is(err, netif.ErrNoInterface) || errors.Is(err, netif.ErrAmbiguous) {
		return usageError(fmt.Sprintf("-interface: %v", err))
	}
	return err
}

// options checks the flags. Its errors are usageErrors that name the flag.
func (f *announceFlags) options(out io.Writer) (o announce.Options, err error) {
	switch {
	case f.once:
		f.count, f.delay, f.jitter, f.watch = 1, 0, 0, string(announce.WatchNo)
	case !given(f.FlagSet, "jitter"):
		f.jitter = min(seconds(time.Second), f.interval/10)
	}
	o = announce.Options{
		Interface: f.iface, Form: f.form(), Count: f.count,
		Delay: time.Duration(f.delay), Schedule: announcer.Schedule{Interval: time.Duration(f.interval), Jitter: time.Duration(f.jitter)},
		Watch: announce.Watch(f.watch), WatchDelay: time.Duration(f.watchDelay), WatchImmediately: f.immediately, Wait: time.Duration(f.wait),
		Unmanaged: f.unmanaged, DieIfExists: f.dieIfExists, RemovePreExisting: f.removePreExisting,
	}
	level := hclog.LevelFromString(f.logLevel)
	o.Logger = hclog.New(&hclog.LoggerOptions{Level: level, JSONFormat: f.json, Output: out})
	if err := noArguments(f.FlagSet, f.Args()); err != nil {
		return o, err
	}
	if level == hclog.NoLevel {
		return o, usageError(fmt.Sprintf("-log-level: %q is none of trace, debug, info, warn, error", f.logLevel))
	}
	if o.Prefix, err = f.prefix(); err != nil {
		return o, err
	}
	if o.MAC, err = station("mac", f.mac); err != nil {
		return o, err
	}
	if o.Target, err = station("target", f.target); err != nil {
		return o, err
	}
	return o, f.check(o)
}

// prefix is the address to announce.
func (f *announceFlags) prefix() (p netip.Prefix, err error) {
	if f.ip == "" {
		return p, usageError("announce needs -ip=ADDRESS")
	}
	p, err = config.ParseAddress(f.ip)
	if err != nil {
		return p, usageError("-ip: " + err.Error())
	}
	return p, nil
}

// form is the form of gratuitous ARP.
func (f *announceFlags) form() announcer.Form {
	switch {
	case f.request && !f.reply:
		return announcer.RequestOnly
	case f.reply && !f.request:
		return announcer.ReplyOnly
	}
	return announcer.RequestAndReply
}

// station is the MAC that a flag names, nil if it is empty.
func station(name, text string) (net.HardwareAddr, error) {
	if text == "" {
		return nil, nil
	}
	mac, err := net.ParseMAC(text)
	if err != nil || !announcer.IsStation(mac) {
		return nil, usageError(fmt.Sprintf("-%s: %q is not the MAC of one station", name, text))
	}
	return mac, nil
}

// check refuses what makes no sense.
func (f *announceFlags) check(o announce.Options) error {
	switch {
	case f.interval <= 0:
		return usageError(fmt.Sprintf("-interval: %s is not more than 0", f.interval))
	case f.jitter > f.interval:
		return usageError(fmt.Sprintf("-jitter: %s is more than the interval, %s", f.jitter, f.interval))
	case f.count < 0:
		return usageError(fmt.Sprintf("-count: %d is less than 0", f.count))
	case o.Prefix.Addr().Is6() && f.request:
		return usageError("-arp-request: an IPv6 address is not announced by ARP")
	case o.Prefix.Addr().Is6() && f.reply:
		return usageError("-arp-reply: an IPv6 address is not announced by ARP")
	case f.unmanaged && f.dieIfExists:
		return usageError("-die-if-ip-exists: it makes no sense with -unmanaged-ip, which leaves the interface alone")
	case f.unmanaged && f.removePreExisting:
		return usageError("-remove-pre-existing-ip: it makes no sense with -unmanaged-ip, which leaves the interface alone")
	case f.dieIfExists && f.removePreExisting:
		return usageError("-remove-pre-existing-ip: it makes no sense with -die-if-ip-exists")
	}
	switch o.Watch {
	case announce.WatchFail, announce.WatchQuit, announce.WatchLog, announce.WatchNo:
		return nil
	}
	return usageError(fmt.Sprintf("-watch: %q is none of fail, quit, log, no", f.watch))
}
