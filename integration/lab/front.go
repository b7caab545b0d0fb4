package lab

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// Front is an HTTP server on a host that stands between consul-vip and the
// host's Consul agent. It passes everything on, until it's told to answer
// something else instead. All methods are safe for concurrent use.
type Front struct {
	Address string // host:port, as seen from the host

	server *http.Server
	agent  http.Handler

	mu       sync.Mutex
	instead  http.HandlerFunc // nil: pass on
	replaced int              // answers given by instead
	passing  context.Context  // of the requests passed on
	cut      context.CancelFunc
}

// NewFront starts a front on a port of the host's loopback interface.
func (h *Host) NewFront(port uint16) (*Front, error) {
	f := &Front{Address: fmt.Sprintf("127.0.0.1:%d", port)}
	f.passing, f.cut = context.WithCancel(context.Background())
	listener, err := h.Listen("tcp", f.Address)
	if err != nil {
		return nil, err
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", ConsulPort)})
	proxy.Transport = &http.Transport{DialContext: h.Dial}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	f.agent = proxy
	f.server = &http.Server{Handler: http.HandlerFunc(f.serve)}
	go func() { _ = f.server.Serve(listener) }() // ends by Close
	return f, nil
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	instead, passing := f.instead, f.passing
	if instead != nil {
		f.replaced++
	}
	f.mu.Unlock()
	if instead != nil {
		instead(w, r)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(passing, cancel)()
	f.agent.ServeHTTP(w, r.WithContext(ctx))
}

// Answer makes the front answer every further request with this status, content
// type and body, the way a broken proxy would. Requests that wait for the agent's
// answer are cut short.
func (f *Front) Answer(status int, contentType, body string) {
	f.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

// PassOn undoes Answer.
func (f *Front) PassOn() { f.set(nil) }

func (f *Front) set(instead http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instead, f.replaced = instead, 0
	f.cut()
	f.passing, f.cut = context.WithCancel(context.Background())
}

// Replaced returns how many requests were answered as the last call of Answer
// says.
func (f *Front) Replaced() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replaced
}

// Close ends the front and every connection through it.
func (f *Front) Close() error {
	f.set(nil)
	return f.server.Close()
}
