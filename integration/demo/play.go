package main

import (
	"context"
	"errors"
	"fmt"
	"net"
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

// play goes through the steps. Each begins with the owner that the last one left.
func (s *stage) play(ctx context.Context) error {
	owner, err := s.begin(ctx)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for _, step := range []struct {
		title string
		do    func(ctx context.Context, owner *lab.Host) error
		exit  int
	}{
		{"A planned stop, as by a scheduler", s.stop, exitStopped},
		{"A crash", s.crash, exitKilled},
		{"Somebody else claims the address", s.claim, exitConflict},
	} {
		s.title("%s", step.title)
		if owner, err = s.move(ctx, owner, step.exit, step.do); err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	return s.verdict()
}

// begin starts consul-vip everywhere.
func (s *stage) begin(ctx context.Context) (*lab.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.title("Start")
	client, err := s.Client.NewClient(s.addr)
	if err != nil {
		return nil, err
	}
	defer client.Stop()
	s.does("starting consul-vip on h1, h2 and h3, configured with: %s", hcl[:len(hcl)-1])
	began := time.Now()
	for _, h := range s.Servers {
		if err := s.start(ctx, h); err != nil {
			return nil, err
		}
	}
	owner, err := s.owner(ctx, client, nil)
	if err != nil {
		return nil, err
	}
	s.sees("%s got the lock and has the address; the others stand by", owner.Name)
	s.sees("the client had its first answer %s after the start", ms(client.Report().Owned[0].First.Sub(began)))
	return owner, nil
}

// move has the address move from its owner to another host, shows what the
// client saw of it, and starts consul-vip again where it has ended.
func (s *stage) move(ctx context.Context, old *lab.Host, exit int, do func(context.Context, *lab.Host) error) (*lab.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := s.Client.NewClient(s.addr)
	if err != nil {
		return nil, err
	}
	stopped := false
	defer func() {
		if !stopped {
			client.Stop()
		}
	}()
	if err := lab.Await(ctx, func() error { return answeredBy(client, old) }); err != nil {
		return nil, err
	}
	if err := do(ctx, old); err != nil {
		return nil, err
	}
	code, err := s.instances[old].Wait(ctx)
	if err != nil {
		return nil, err
	}
	if code != exit {
		return nil, fmt.Errorf("consul-vip on %s exited with %d, not with %d:\n%s", old.Name, code, exit, s.instances[old])
	}
	next, err := s.owner(ctx, client, old)
	if err != nil {
		return nil, err
	}
	report := client.Stop()
	stopped = true
	if err := s.tell(report, old, next); err != nil {
		return nil, err
	}
	s.does("starting consul-vip on %s again, as a scheduler would; %s keeps the address", old.Name, next.Name)
	return next, s.start(ctx, old)
}

func answeredBy(client *lab.Client, h *lab.Host) error {
	if by := client.AnsweredBy(); by != h.Name {
		return fmt.Errorf("the client is answered by %q, not by %s", by, h.Name)
	}
	return nil
}

// tell says what the client saw of a move.
func (s *stage) tell(r lab.Report, old, next *lab.Host) error {
	s.sees("%s has the address now", next.Name)
	longest := r.Longest()
	s.sees("the client was answered by %s, then by %s; it went %s without an answer and lost %d of %d requests",
		old.Name, next.Name, ms(longest.Length()), r.Lost, r.Sent)
	if want := []string{old.Name, next.Name}; !slices.Equal(want, r.Hosts()) {
		return fmt.Errorf("the client was answered by %v, not by %v", r.Hosts(), want)
	}
	return nil
}

// stop ends the owner as a scheduler does.
func (s *stage) stop(ctx context.Context, owner *lab.Host) error {
	p := s.instances[owner]
	s.does("SIGTERM to consul-vip on %s", owner.Name)
	began := time.Now()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	s.sees("it let go of the address and exited with %d after %s", code, ms(time.Since(began)))
	return nil
}

// crash kills the owner. Nobody but the kernel is left to remove the address.
func (s *stage) crash(ctx context.Context, owner *lab.Host) error {
	s.does("SIGKILL to consul-vip on %s; the address stays in its kernel for the rest of its lifetime", owner.Name)
	began := time.Now()
	if err := s.instances[owner].Kill(); err != nil {
		return err
	}
	err := lab.Await(ctx, func() error {
		owns, err := owner.Owns(ctx, s.addr)
		if owns {
			return errors.New("the address is still there")
		}
		return err
	})
	if err != nil {
		return err
	}
	s.does("the kernel of %s removed the address by itself, %.1f s after the crash; it answered until then", owner.Name, time.Since(began).Seconds())
	return nil
}

// claim has somebody on the wire claim the owner's address.
func (s *stage) claim(ctx context.Context, owner *lab.Host) error {
	foreign := net.HardwareAddr{2, 0, 0, 0, 0xff, 1}
	p := s.instances[owner]
	s.does("a forged ARP frame says: %s is at %s", vip, foreign)
	if err := s.Observer.Send("eth0", lab.Gratuitous(lab.ARPRequest, foreign, s.addr).Frame()); err != nil {
		return err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	for _, e := range p.Entries() {
		if reaction, err := time.ParseDuration(e.Get("reaction")); err == nil {
			s.sees("consul-vip on %s had the address out of the kernel %s after the frame, and exited with %d", owner.Name, ms(reaction), code)
			return nil
		}
	}
	return fmt.Errorf("consul-vip on %s does not say how quick it was:\n%s", owner.Name, p)
}

// verdict says what the observer has seen in all that time.
func (s *stage) verdict() error {
	s.title("All the while")
	doubles := s.witness.Doubles()
	s.sees("the observer asked %d times who has %s; %d times two hosts answered", s.witness.Asked(s.addr), vip, len(doubles))
	if len(doubles) > 0 {
		return fmt.Errorf("the address had two owners at %v: %v", doubles[0].At, doubles[0].Hosts)
	}
	return nil
}
