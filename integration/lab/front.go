package lab

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
)

// Front is an HTTP server on a host that stands between consul-vip and the
// host's Consul agent. It passes everything on, until it's told to answer
// something else instead.
type Front struct {
	Address string // host:port, as seen from the host

	server  *http.Server
	instead atomic.Pointer[http.HandlerFunc]
}

// NewFront starts a front on a port of the host's loopback interface.
func (h *Host) NewFront(port uint16) (*Front, error) {
	f := &Front{Address: fmt.Sprintf("127.0.0.1:%d", port)}
	listener, err := h.Listen("tcp", f.Address)
	if err != nil {
		return nil, err
	}
	agent := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", ConsulPort)})
	agent.Transport = &http.Transport{DialContext: h.Dial}
	f.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if instead := f.instead.Load(); instead != nil {
			(*instead)(w, r)
			return
		}
		agent.ServeHTTP(w, r)
	})}
	go func() { _ = f.server.Serve(listener) }() // ends by Close
	return f, nil
}

// Answer makes the front answer every further request with this status, content
// type and body, the way a broken proxy would. A status of 0 ends that.
func (f *Front) Answer(status int, contentType, body string) {
	if status == 0 {
		f.instead.Store(nil)
		return
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
	f.instead.Store(&handler)
}

// Close ends the front and every connection through it.
func (f *Front) Close() error { return f.server.Close() }
