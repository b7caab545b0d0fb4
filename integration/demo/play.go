package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// Exit codes of consul-vip that the steps expect.
const (
	exitStopped  = 0
	exitKilled   = -1 // no code of its own
	exitConflict = 5
)

// step is one event that makes the address move.
type step struct {
	title string
	do    func(ctx context.Context, owner *lab.Host) error
	exit  int // code that the owner's instance exits with
}

// play shows all steps. Each begins with the owner that the one before it left.
func (d *demoLab) play(ctx context.Context) error {
	owner, err := d.begin(ctx)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for _, s := range []step{
		{"A planned stop, as a scheduler does it", d.stop, exitStopped},
		{"A crash", d.crash, exitKilled},
		{"A station that is not ours claims the address", d.claim, exitConflict},
	} {
		d.title("%s", s.title)
		if owner, err = d.move(ctx, owner, s); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	return d.verdict()
}

// begin starts consul-vip on all hosts and returns the owner.
func (d *demoLab) begin(ctx context.Context) (*lab.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	d.title("Start")
	client, err := d.Client.NewClient(d.addr)
	if err != nil {
		return nil, err
	}
	defer client.Stop()
	d.does("starting consul-vip on h1, h2 and h3; the configuration is: %s", hcl)
	began := time.Now()
	for _, h := range d.Servers {
		if err := d.start(ctx, h); err != nil {
			return nil, err
		}
	}
	owner, err := d.AwaitOwner(ctx, d.addr, client, nil)
	if err != nil {
		return nil, err
	}
	d.sees("%s has acquired the lock and has bound the address; the others are standbys", owner.Name)
	d.sees("the client got its first answer %s after the start", ms(client.Report().Owned[0].First.Sub(began)))
	return owner, nil
}

// move does a step, waits until another host owns the address, shows what the client
// saw, and starts consul-vip again on the old host. It returns the new owner.
func (d *demoLab) move(ctx context.Context, old *lab.Host, s step) (*lab.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	client, err := d.Client.NewClient(d.addr)
	if err != nil {
		return nil, err
	}
	owner, err := d.moved(ctx, client, old, s)
	report := client.Stop()
	if err != nil {
		return nil, err
	}
	if err := d.tell(report, old, owner); err != nil {
		return nil, err
	}
	d.does("starting consul-vip on %s again, as a scheduler does; %s keeps the address", old.Name, owner.Name)
	return owner, d.start(ctx, old)
}

// moved does a step and waits until another host owns the address.
func (d *demoLab) moved(ctx context.Context, client *lab.Client, old *lab.Host, s step) (*lab.Host, error) {
	if err := lab.Await(ctx, func() error { return client.CheckAnsweredBy(old) }); err != nil {
		return nil, err
	}
	if err := s.do(ctx, old); err != nil {
		return nil, err
	}
	code, err := d.instances[old].Wait(ctx)
	if err != nil {
		return nil, err
	}
	if code != s.exit {
		return nil, fmt.Errorf("consul-vip on %s exited with %d, not with %d:\n%s", old.Name, code, s.exit, d.instances[old])
	}
	return d.AwaitOwner(ctx, d.addr, client, old)
}

// tell shows what the client saw of a move. It returns an error if other hosts than these
// two answered.
func (d *demoLab) tell(r lab.Report, old, owner *lab.Host) error {
	d.sees("%s has the address now", owner.Name)
	d.sees("%s answered the client, then %s; the longest time without an answer was %s; %d of %d requests were lost",
		old.Name, owner.Name, ms(r.Longest().Length()), r.Lost, r.Sent)
	if want := []string{old.Name, owner.Name}; !slices.Equal(want, r.Hosts()) {
		return fmt.Errorf("the client got answers from %v, not from %v", r.Hosts(), want)
	}
	return nil
}

// stop ends the owner's instance as a scheduler does.
func (d *demoLab) stop(ctx context.Context, owner *lab.Host) error {
	p := d.instances[owner]
	d.does("SIGTERM to consul-vip on %s", owner.Name)
	began := time.Now()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	d.sees("it released the address and exited with %d after %s", code, ms(time.Since(began)))
	return nil
}

// crash kills the owner's instance. Only the kernel is left to remove the address.
func (d *demoLab) crash(ctx context.Context, owner *lab.Host) error {
	d.does("SIGKILL to consul-vip on %s; the kernel keeps the address until its lifetime ends", owner.Name)
	began := time.Now()
	if err := d.instances[owner].Kill(); err != nil {
		return err
	}
	err := lab.Await(ctx, func() error {
		owns, err := owner.Owns(ctx, d.addr)
		if owns {
			return errors.New("the address is still bound")
		}
		return err
	})
	if err != nil {
		return err
	}
	d.does("the kernel of %s removed the address %.1f s after the crash; it answered until then", owner.Name, time.Since(began).Seconds())
	return nil
}

// claim sends a forged claim of the owner's address.
func (d *demoLab) claim(ctx context.Context, owner *lab.Host) error {
	p := d.instances[owner]
	d.does("a forged ARP frame says: %s is at %s", vip, lab.Stranger())
	if err := d.Observer.Send("eth0", lab.Gratuitous(lab.ARPRequest, lab.Stranger(), d.addr).Frame()); err != nil {
		return err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	reaction, ok := p.Reaction()
	if !ok {
		return fmt.Errorf("consul-vip on %s did not log its reaction time:\n%s", owner.Name, p)
	}
	d.sees("consul-vip on %s unbound the address %s after the frame, and exited with %d", owner.Name, ms(reaction), code)
	return nil
}

// verdict shows what the observer saw in all that time.
func (d *demoLab) verdict() error {
	d.title("All the time")
	doubles := d.Wire.Doubles()
	d.sees("the observer asked %d times which host has %s; two hosts answered %d times", d.Wire.Asked(d.addr), vip, len(doubles))
	if len(doubles) > 0 {
		return fmt.Errorf("the address had two owners at %v: %v", doubles[0].At, doubles[0].Hosts)
	}
	return nil
}
