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
	"strings"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/command"
	"github.com/consul-vip/consul-vip/config"
)

// maxBody is how much of an answer is searched for the expected text, in bytes.
const maxBody = 64 << 10

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

// tryCommand runs a program.
func tryCommand(ctx context.Context, args []string) error {
	return command.Run(ctx, args, nil).Reason()
}
