package simconsul

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"
)

// maxConns is the most connections that a process may use.
const maxConns = 5

var (
	errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	errReset   = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
)

// Request is a request that a process sends to its agent.
type Request struct {
	Method, Path string
	Query        url.Values
	Token        string
	Body         []byte
}

// Fate is what happens to one request on its way. The zero Fate is the ordinary one.
type Fate struct {
	Delay       time.Duration // before it reaches the agent
	Lost        bool          // it never does; its sender waits until it gives up
	AnswerDelay time.Duration // after it was carried out
	AnswerLost  bool          // it is carried out and never answered
	Status      int           // not 0: it is not carried out, but answered with this
	Body        string        // of that answer
}

// SetFate has fate decide what happens to each request to this agent. It is called
// without a mutex. Nil ends that.
func (a *Agent) SetFate(fate func(Request) Fate) {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	a.fate = fate
}

// transport is one process's connections to its agent.
type transport struct {
	agent *Agent
	conns chan struct{} // one token for each request under way
}

// Transport returns what a process sends its requests through. As many requests can be
// under way as a process may have connections; others wait. A request ends with its
// context; a write that was under way is carried out all the same.
func (a *Agent) Transport() http.RoundTripper {
	return &transport{agent: a, conns: make(chan struct{}, maxConns)}
}

// Client returns a client of a process. Wrap, which may be nil, wraps its transport.
func (a *Agent) Client(wrap func(http.RoundTripper) http.RoundTripper) *api.Client {
	t := a.Transport()
	if wrap != nil {
		t = wrap(t)
	}
	client, err := api.NewClient(&api.Config{
		Address: "consul.test", Scheme: "http", Transport: &http.Transport{}, HttpClient: &http.Client{Transport: t},
	})
	if err != nil {
		panic(err) // the configuration is a constant
	}
	return client
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	q, err := read(r)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	select {
	case t.conns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-t.conns }()
	answer, err := t.agent.send(ctx, q)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	}
	return answer.response(r), nil
}

func read(r *http.Request) (Request, error) {
	q := Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Token: r.Header.Get("X-Consul-Token")}
	if r.Body == nil {
		return q, nil
	}
	defer r.Body.Close()
	var err error
	q.Body, err = io.ReadAll(r.Body)
	return q, err
}

// answer is an HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) response(r *http.Request) *http.Response {
	return &http.Response{
		Status: strconv.Itoa(a.status) + " " + http.StatusText(a.status), StatusCode: a.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}
}

// plain is an answer in words, as Consul's errors are.
func plain(status int, text string) *answer {
	return &answer{status, http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, []byte(text)}
}

// send has a request carried out, as its fate wants it.
func (a *Agent) send(ctx context.Context, q Request) (*answer, error) {
	a.c.mu.Lock()
	decide := a.fate
	a.c.mu.Unlock()
	var fate Fate
	if decide != nil {
		fate = decide(q)
	}
	if err := sleep(ctx, fate.Delay); err != nil {
		return nil, err
	}
	if fate.Lost {
		return nil, a.never(ctx)
	}
	run, err := a.reach(ctx)
	if err != nil {
		return nil, err
	}
	answer := plain(fate.Status, fate.Body)
	if fate.Status == 0 {
		answer, err = a.carryOut(ctx, run, q)
	}
	if err == nil {
		err = sleep(ctx, fate.AnswerDelay)
	}
	if err == nil && fate.AnswerLost {
		err = a.never(ctx)
	}
	if err == nil {
		err = a.deliver(ctx, run)
	}
	return answer, err
}

// never waits until the sender gives up, or the cluster ends.
func (a *Agent) never(ctx context.Context) error {
	return a.c.await(ctx, func() (bool, error) { return false, nil })
}

// reach waits until a request has reached the agent's process.
func (a *Agent) reach(ctx context.Context) (run *run, err error) {
	if err := a.c.hop(ctx, 50*time.Microsecond, 300*time.Microsecond); err != nil {
		return nil, err
	}
	err = a.c.await(ctx, func() (bool, error) {
		switch {
		case a.crashed: // nothing answers the packets
			return false, nil
		case run != nil && a.run != run:
			return false, errReset
		case a.run == nil:
			return false, errRefused
		}
		run = a.run // the kernel has taken the connection
		return !a.frozen, nil
	})
	return run, err
}

// deliver waits until the agent has sent the answer. The caller holds no mutex.
func (a *Agent) deliver(ctx context.Context, run *run) error {
	return a.c.await(ctx, func() (bool, error) {
		switch {
		case a.crashed:
			return false, nil
		case a.run != run:
			return false, errReset
		}
		return !a.frozen, nil
	})
}

// carryOut handles a request. One that writes goes on when its sender gives up or the
// agent dies: nothing calls it back.
func (a *Agent) carryOut(ctx context.Context, run *run, q Request) (*answer, error) {
	if !writes(q) {
		return a.handle(ctx, run, q), nil
	}
	done := make(chan *answer, 1)
	if !a.c.start(func() { done <- a.handle(a.c.ctx, run, q) }) {
		return nil, errClosed
	}
	select {
	case answer := <-done:
		return answer, nil
	case <-run.died:
		return nil, a.deliver(ctx, run)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// start runs f in a goroutine that Close waits for, unless the cluster is closed.
func (c *Cluster) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.tasks.Go(f)
	return true
}

var errEnded = errors.New("the agent has ended")
