package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
)

// A segment.

func (f *fakeVIP) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (f *fakeVIP) Use(netip.Addr) error { return nil }

func (f *fakeVIP) SetHardwareAddr(net.HardwareAddr) {}

func (f *fakeVIP) Prove(ctx context.Context, c announcer.ProofConfig) (announcer.Proof, error) {
	var owners []string
	for _, h := range c.Owners {
		owners = append(owners, strings.Join(texts(h.MACs), "+"))
	}
	f.record(fmt.Sprintf("prove %s for %s", strings.Join(append(owners, texts(c.Strangers)...), ","), c.Timeout))
	if f.prove != nil {
		if err := f.prove(c); err != nil {
			return announcer.Proof{}, err
		}
	}
	f.proof.Since = time.Now()
	return f.proof, context.Cause(ctx)
}

func (f *fakeVIP) HeardSince(_ net.HardwareAddr, t time.Time) bool { return f.heardAt.After(t) }

func (f *fakeVIP) LastHeard() time.Time { return f.heardAt }

func (f *fakeVIP) Witnessed(context.Context, netip.Addr, announcer.Witnesses) bool {
	f.record("ask the witnesses")
	return f.witnessed
}

func (f *fakeVIP) MeasureLoss(ctx context.Context, _ netip.Addr, _ announcer.Host, _ time.Duration) error {
	<-ctx.Done()
	return nil
}

func (f *fakeVIP) CheckHost(ctx context.Context, _ announcer.HostCheckConfig, _ func(announcer.HostState)) error {
	<-ctx.Done()
	return nil
}

func (f *fakeVIP) Announce(ctx context.Context, a announcer.Announcement, restart <-chan struct{}) error {
	f.mayAnnounce, f.schedule = a.MayAnnounce, a.Schedule
	f.record("announce")
	defer f.record("stop announcing")
	for {
		select {
		case <-restart:
			f.record("announce again")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fakeVIP) Listen(netip.Addr) listener { return f }

func (f *fakeVIP) SendReady(_ context.Context, _ netip.Addr, owner net.HardwareAddr, n announcer.Nonce) error {
	f.record(nonced("send ready to "+owner.String(), n))
	return nil
}

func (f *fakeVIP) SendReleased(_ context.Context, _ netip.Addr, successor net.HardwareAddr, n announcer.Nonce) error {
	f.record(nonced(strings.TrimSpace("send released "+successor.String()), n))
	return nil
}

// nonced is a call with the nonce of a handover, if there is one.
func nonced(call string, n announcer.Nonce) string {
	if n == (announcer.Nonce{}) {
		return call
	}
	return fmt.Sprintf("%s, nonce %x", call, n[:])
}

func (f *fakeVIP) Handover(netip.Addr) handover { return f }

// A handover and a listener.

func (f *fakeVIP) AwaitReady(_ context.Context, n announcer.Nonce, _ time.Duration) bool {
	f.record(nonced("await ready", n))
	return !f.notReady
}

func (f *fakeVIP) Meet(context.Context, netip.Addr, netip.Addr) error { return nil }

func (f *fakeVIP) AwaitReleased(ctx context.Context, owner net.HardwareAddr, n announcer.Nonce, timeout time.Duration) bool {
	if timeout >= 0 {
		f.record(nonced("await released from "+owner.String(), n))
	} else {
		timeout = time.Hour
	}
	sent := time.Until(f.releasedAt)
	if f.releasedAt.IsZero() || sent > timeout {
		wait(ctx, timeout)
		return false
	}
	wait(ctx, sent)
	return ctx.Err() == nil
}

func (f *fakeVIP) Claims() <-chan announcer.Claim { return f.claims }
