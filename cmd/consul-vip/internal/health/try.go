package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/config"
)

const (
	// maxBody is how much of an answer is searched for the expected text, in bytes.
	maxBody = 64 << 10
	// maxReason is how much of a program's output becomes the reason, in bytes.
	maxReason = 200
	// drainTime is how long the output of a program is read after its end: a child may
	// still have it open.
	drainTime = 100 * time.Millisecond
)

// try runs a check once. It returns nil if the service is fit, else an error whose text is
// the reason. It ends with ctx.
type try func(ctx context.Context) error

// Services tells the health of a service as the local Consul agent knows it:
// *consul.Client. The reason is why it is not fit; empty: it is. An error says nothing of the
// service.
type Services interface {
	ServiceHealth(ctx context.Context, service string) (reason string, err error)
}

// errNoResult means that a run says nothing of the service.
var errNoResult = errors.New("no result")

// tryOf returns how to run a check.
func tryOf(c config.Check, s Services) try {
	switch {
	case c.HTTP != "":
		return tryHTTP(c)
	case c.TCP != "":
		return func(ctx context.Context) error { return tryTCP(ctx, c.TCP) }
	case len(c.Command) > 0:
		return func(ctx context.Context) error { return tryCommand(ctx, c.Command) }
	}
	return func(ctx context.Context) error { return tryService(ctx, s, c.Service) }
}

// tryService asks the local Consul agent. While that is away, nothing is known of the service
// that was not known before.
func tryService(ctx context.Context, s Services, service string) error {
	reason, err := s.ServiceHealth(ctx, service)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errNoResult, err)
	case reason != "":
		return errors.New(reason)
	}
	return nil
}

// tryHTTP gets a URL. Each run has a connection of its own: a service that takes no new one
// is not fit.
func tryHTTP(c config.Check) try {
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: c.TLSSkipVerify},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.HTTP, nil)
		if err != nil {
			return err
		}
		req.Header.Set("User-Agent", "consul-vip")
		for name, value := range c.Header {
			if strings.EqualFold(name, "Host") {
				req.Host = value
				continue
			}
			req.Header.Set(name, value)
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return judgeHTTP(c, resp)
	}
}

// judgeHTTP compares an answer with what is expected.
func judgeHTTP(c config.Check, resp *http.Response) error {
	switch {
	case c.ExpectStatus != 0:
		if resp.StatusCode != c.ExpectStatus {
			return fmt.Errorf("status %s, expected %d", resp.Status, c.ExpectStatus)
		}
		return nil
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("status %s", resp.Status)
	case c.ExpectText == "":
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if !bytes.Contains(body, []byte(c.ExpectText)) {
		return errors.Join(fmt.Errorf("the answer does not contain %q", c.ExpectText), err)
	}
	return nil
}

// tryTCP connects.
func tryTCP(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// tryCommand runs a program in a process group of its own, which is killed when ctx ends,
// and after the program's end.
func tryCommand(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	kill := func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.Cancel = kill
	cmd.WaitDelay = drainTime
	out := &firstLine{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	_ = kill() // its children; an error says that there is none
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("killed: %w", context.Cause(ctx))
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil // a child that outlives it does not matter
	case out.text() != "":
		return fmt.Errorf("%w: %s", err, out.text())
	}
	return err
}

// firstLine keeps the first line that is written.
type firstLine struct {
	buf  bytes.Buffer
	full bool
}

func (l *firstLine) Write(b []byte) (int, error) {
	if l.full {
		return len(b), nil
	}
	rest := b
	if l.buf.Len() == 0 {
		rest = bytes.TrimLeft(b, "\r\n")
	}
	line, _, ended := bytes.Cut(rest, []byte("\n"))
	l.buf.Write(line[:min(len(line), maxReason-l.buf.Len())])
	l.full = ended || l.buf.Len() == maxReason
	return len(b), nil
}

// text is the line without what cannot be printed.
func (l *firstLine) text() string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, l.buf.String()))
}
