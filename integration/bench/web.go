package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// nginxConfig is a web server that answers every request by itself. It is one process,
// because only root may change to another user, and has its files below its directory.
const nginxConfig = `daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen 80;
		location / { return 200 "%s\n"; }
	}
}
`

// wrkScript has wrk print its figures in JSON.
const wrkScript = `done = function(summary, latency, requests)
	local e = summary.errors
	io.write(string.format('{"requests": %d, "errors": %d, "slowest": %d}\n', summary.requests,
		e.connect + e.read + e.write + e.status + e.timeout, latency.max))
end
`

// webLoad is what the web client saw.
type webLoad struct {
	Requests int `json:"requests"`
	Errors   int `json:"errors"`
	Slowest  int `json:"slowest"` // microseconds, from the established connection to the answer
}

func (w webLoad) String() string {
	return fmt.Sprintf("%d requests, %d errors, slowest %s ms", w.Requests, w.Errors, ms(time.Duration(w.Slowest)*time.Microsecond))
}

// web is a web server on every host and a client that makes a new connection through the
// address for each request.
type web struct {
	servers []*lab.Process
	client  *lab.Process
}

// startWeb starts the web servers, and then the client.
func (e *entry) startWeb(ctx context.Context) (*web, error) {
	w := new(web)
	for _, h := range e.hosts {
		file, err := h.WriteFile(filepath.Join("nginx", "nginx.conf"), fmt.Appendf(nil, nginxConfig, h.Name))
		if err != nil {
			return w, err
		}
		p, err := h.Start(lab.Command{Args: []string{e.programs.nginx, "-e", "stderr", "-p", filepath.Dir(file), "-c", file}})
		if err != nil {
			return w, err
		}
		w.servers = append(w.servers, p)
	}
	for _, p := range w.servers {
		if err := lab.Await(ctx, func() error { return serves(ctx, p) }); err != nil {
			return w, fmt.Errorf("nginx on %s: %w: %s", p.Host.Name, err, p)
		}
	}
	script, err := e.Client.WriteFile("wrk.lua", []byte(wrkScript))
	if err != nil {
		return w, err
	}
	w.client, err = e.Client.Start(lab.Command{Args: []string{
		e.programs.wrk, "-t1", "-c4", "-d1h", "--timeout", "10s", "-s", script, "-H", "Connection: close", fmt.Sprintf("http://%s/", e.addr),
	}})
	return w, err
}

// serves returns an error unless the web server accepts connections.
func serves(ctx context.Context, p *lab.Process) error {
	if !p.Running() {
		return errors.New("it has ended")
	}
	conn, err := p.Host.Dial(ctx, "tcp", "127.0.0.1:80")
	if err == nil {
		err = conn.Close()
	}
	return err
}

// stop ends the client and returns what it saw.
func (w *web) stop(ctx context.Context) (seen webLoad, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stopTimeout, errors.New("wrk did not end in time"))
	defer cancel()
	if err := w.client.Signal(syscall.SIGINT); err != nil {
		return seen, fmt.Errorf("wrk: %w: %s", err, w.client)
	}
	if _, err := w.client.Wait(ctx); err != nil {
		return seen, err
	}
	for line := range strings.Lines(w.client.String()) {
		if strings.HasPrefix(line, "{") {
			return seen, json.Unmarshal([]byte(line), &seen)
		}
	}
	return seen, fmt.Errorf("wrk printed no figures: %s", w.client)
}

// end ends the web servers, and the client if it still runs.
func (w *web) end() error {
	var errs []error
	for _, p := range w.servers {
		errs = append(errs, p.Kill())
	}
	if w.client != nil {
		errs = append(errs, w.client.Kill())
	}
	return errors.Join(errs...)
}
