package lab

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// Front is an HTTP proxy on a host, between consul-vip and the host's Consul agent. It
// passes requests on until Answer makes it answer them itself. All methods are safe
// for concurrent use.
type Front struct {
	Address string // host:port, as seen from the host

	server  *http.Server
	serving sync.WaitGroup
	agent   http.Handler

	mu       sync.Mutex         // guards all following fields
	instead  http.HandlerFunc   // answers every request; nil: pass requests on
	replaced int                // number of answers by instead
	passing  context.Context    // of the requests passed on
	cut      context.CancelFunc // ends passing
}

// NewFront starts a front on a port of the host's loopback interface.
func (h *Host) NewFront(port uint16) (*Front, error) {
	f := &Front{Address: fmt.Sprintf("127.0.0.1:%d", port)}
	f.passing, f.cut = context.WithCancel(context.Background())
	listener, err := h.Listen("tcp", f.Address)
	if err != nil {
		return nil, err
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: h.ConsulHTTP()})
	proxy.Transport = &http.Transport{DialContext: h.Dial}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	f.agent = proxy
	f.server = &http.Server{Handler: http.HandlerFunc(f.serve)}
	f.serving.Go(func() { _ = f.server.Serve(listener) }) // always fails, when Close is called
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

// Answer makes the front answer every further request with this status, content type
// and body, as a broken proxy may do. Requests that wait for the agent's answer are
// cancelled.
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

// Replaced returns how many requests got the answer that the last call of Answer
// set.
func (f *Front) Replaced() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replaced
}

// Close ends the front and every connection through it.
func (f *Front) Close() error {
	f.set(nil)
	err := f.server.Close()
	f.serving.Wait()
	return err
}
