package simulation

import (
	"context"
	"errors"
	"net/http"
	"sync"
)

// errKilled is what a killed process hears from everything outside.
var errKilled = errors.New("simulation: the process was killed")

// gate is between a process and everything outside: Consul, the kernel, the wire and
// the clock. While it is closed the process stands still, because each of its
// goroutines stops at its next look outside. A process that was killed never gets
// through again.
type gate struct {
	ctx  context.Context // ends when the process is killed
	kill context.CancelFunc

	mu     sync.Mutex    // guards all following fields
	closed chan struct{} // closed when the gate opens; nil while it is open
	pauses int           // that have begun and not ended
}

func newGate() *gate {
	g := &gate{}
	g.ctx, g.kill = context.WithCancel(context.Background())
	return g
}

// pause closes the gate until as many calls of resume.
func (g *gate) pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pauses++; g.closed == nil {
		g.closed = make(chan struct{})
	}
}

func (g *gate) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pauses--; g.pauses == 0 {
		close(g.closed)
		g.closed = nil
	}
}

func (g *gate) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed != nil
}

// pass waits while the gate is closed. The error is errKilled.
func (g *gate) pass() error {
	for {
		g.mu.Lock()
		closed := g.closed
		g.mu.Unlock()
		switch {
		case g.ctx.Err() != nil:
			return errKilled
		case closed == nil:
			return nil
		}
		select {
		case <-closed:
		case <-g.ctx.Done():
		}
	}
}

// token is the ACL token of every process.
const token = "5eed5eed-0000-0000-0000-000000000000"

// gatedTransport is a process's way to its Consul agent.
type gatedTransport struct {
	*process
	http.RoundTripper
}

// RoundTrip implements [http.RoundTripper]. A killed process closes its connections.
func (t gatedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.gate.pass(); err != nil {
		return nil, err
	}
	r.Header.Set("X-Consul-Token", token)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(t.gate.ctx, cancel)()
	answer, err := t.RoundTripper.RoundTrip(r.WithContext(ctx))
	switch {
	case err != nil:
		t.host.cluster.log.add(t.name, "%s %s: %v", r.Method, r.URL.Path, err)
	case answer.StatusCode >= http.StatusBadRequest:
		t.host.cluster.log.add(t.name, "%s %s: %s", r.Method, r.URL.Path, answer.Status)
	}
	if err := t.gate.pass(); err != nil {
		return nil, err
	}
	return answer, err
}
