package integration

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// webPort is where the web servers of these tests listen.
const webPort = 8080

// webConfig is a web server that answers every request with a status and a text.
const webConfig = nginxHead + `
  server {
    listen 8080;
    listen [::]:8080;
    location / { return %d "%s"; }
  }
}
`

// nginxHead is the beginning of every configuration of nginx, up to the first server.
const nginxHead = `daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 128; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;`

// checkWeb is a check of the web server, and requireWeb the line of a vip block.
const (
	checkWeb = `
check "web" {
  http     = "http://127.0.0.1:8080/"
  interval = "500ms"
  timeout  = "450ms"
  rise     = 2
  fall     = 2
}
`
	requireWeb = `require = ["web"]`
)

// web starts a web server on a host, which answers with this status and the host's name.
func (s *scene) web(h *lab.Host, status int) *lab.Process {
	s.t.Helper()
	file, err := h.WriteFile(filepath.Join("nginx", "nginx.conf"), fmt.Appendf(nil, webConfig, status, h.Name))
	s.NoError(err)
	p := s.launch(h, "nginx", lab.Command{Args: []string{"nginx", "-e", "stderr", "-p", filepath.Dir(file), "-c", file}})
	s.await(condition{"a web server on " + h.Name, func() error {
		ctx, cancel := context.WithTimeout(s.t.Context(), slack)
		defer cancel()
		conn, err := h.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", webPort))
		if err == nil {
			_ = conn.Close()
		}
		return err
	}})
	return p
}

// startServices starts an instance with a check on every host, the owner first.
func (s *scene) startServices(check, vip string) {
	s.t.Helper()
	hcl := s.hcl(config{vip: vip}) + check
	owner := s.startFrom(s.Servers[0], s.configure(s.Servers[0], hcl))
	s.await(inState(owner, "active"))
	for _, h := range s.Servers[1:] {
		p := s.startFrom(h, s.configure(h, hcl))
		s.await(inState(p, "standby"))
		s.await(s.memberOn(h))
	}
	s.await(s.ownedBy(s.Servers[0]))
	s.restartClient()
	s.await(s.ownedBy(s.Servers[0]))
}

// served requires that curl gets the host's name through the address.
func (s *scene) served(by *lab.Host) condition { return s.servedAt(webPort, by) }

// servedAt is served for another port.
func (s *scene) servedAt(port uint16, by *lab.Host) condition {
	return condition{"the service of " + by.Name + " behind the address", func() error {
		url := fmt.Sprintf("http://%s/", netip.AddrPortFrom(s.vip, port))
		out, err := s.Client.Run(s.t.Context(), lab.Command{Args: []string{"curl", "-sS", "--fail", "--max-time", "5", url}})
		if got := strings.TrimSpace(string(out)); err == nil && got != by.Name {
			err = fmt.Errorf("answered by %q", got)
		}
		return err
	}}
}

// TestServiceDies has the service behind the address fail in every way. The address goes to
// a host where it works, as in a planned move.
func TestServiceDies(t *testing.T) {
	for name, fault := range map[string]struct {
		do     func(s *scene, web *lab.Process)
		reason string
	}{
		"killed":  {func(s *scene, web *lab.Process) { s.NoError(web.Kill()) }, "connect: connection refused"},
		"stopped": {func(s *scene, web *lab.Process) { s.signal(web, syscall.SIGSTOP) }, "timed out after 450ms"},
		"status 500": {func(s *scene, web *lab.Process) {
			s.NoError(web.Kill())
			s.web(web.Host, 500)
		}, "status 500"},
		"black-holed": {func(s *scene, web *lab.Process) {
			s.NoError(web.Host.Filter(s.t.Context(), fmt.Sprintf("table inet hole {\n chain in {\n type filter hook input priority 0; iif lo tcp dport %d drop\n }\n}\n", webPort)))
			s.t.Cleanup(func() { s.NoError(web.Host.Filter(context.Background(), "delete table inet hole\n")) })
		}, "timed out after 450ms"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			h1 := s.Servers[0]
			first := s.web(h1, 200)
			for _, h := range s.Servers[1:] {
				s.web(h, 200)
			}
			s.startServices(checkWeb, requireWeb)
			s.await(s.served(h1))
			fault.do(s, first)
			next := s.takenOver(h1)
			s.await(s.served(next))
			s.Less(s.client.Report().Longest().Length(), longestGap, "time without an answer")
			s.running(s.instances...)
			s.seen(h1, next)

			s.Contains(s.status(h1).text("note"), "h1 is not fit: check web: "+fault.reason)
			refused := s.fail(next, "move", s.vip.String(), "-to="+h1.Name)
			s.Contains(refused.stderr, "h1 is not fit for "+s.vip.String()+": check web: "+fault.reason)
		})
	}
}

// TestNoServiceIsFit kills the service on every host. The address stays, and goes to the
// first host where the service works again; or, if that is wanted, nobody has it meanwhile.
func TestNoServiceIsFit(t *testing.T) {
	for _, policy := range []string{"keep", "release"} {
		t.Run(policy, func(t *testing.T) {
			s := newScene(t)
			h1, h2 := s.Servers[0], s.Servers[1]
			webs := map[*lab.Host]*lab.Process{}
			for _, h := range s.Servers {
				webs[h] = s.web(h, 200)
			}
			s.startServices(checkWeb, requireWeb+"\nwhen_none_fit = \""+policy+"\"")
			s.await(s.served(h1))
			for _, h := range []*lab.Host{h2, s.Servers[2], h1} {
				s.NoError(webs[h].Kill())
				if h != h1 {
					s.await(s.notFit(h))
				}
			}
			if policy == "keep" {
				s.await(s.noteSays(h1, "h1 is not fit"))
				s.pass(calm)
				s.holds(s.ownedBy(h1))
			} else {
				s.await(s.unbound())
				s.await(s.statusIs(h1, "free"))
				s.await(s.noteSays(h1, "h1 cannot take it: check web: connect: connection refused"))
			}
			s.web(h2, 200)
			s.await(s.served(h2))
			s.await(s.ownedBy(h2))
		})
	}
}

// notFit is met when a member says that it is not fit for the address, or does not contend.
func (s *scene) notFit(h *lab.Host) condition {
	return condition{h.Name + " not to be fit", func() error {
		contended, err := s.priorities(h)
		if priority, contends := contended[s.vip]; err == nil && contends && priority <= 1000 {
			err = fmt.Errorf("it contends with priority %d", priority)
		}
		return err
	}}
}

// noteSays is met when the note of status contains a text.
func (s *scene) noteSays(h *lab.Host, text string) condition {
	return condition{fmt.Sprintf("status to say %q", text), func() error {
		r, err := s.statusRow(h)
		if err == nil && !strings.Contains(r.text("note"), text) {
			err = fmt.Errorf("%q", r.text("note"))
		}
		return err
	}}
}

// TestServiceOfManyAddresses kills a service that a hundred addresses require.
func TestServiceOfManyAddresses(t *testing.T) {
	vips := addrs(13, 1, 100)
	s := newSceneOf(t, 200*time.Millisecond, vips...)
	h1 := s.Servers[0]
	webs := map[*lab.Host]*lab.Process{}
	for _, h := range s.Servers {
		webs[h] = s.web(h, 200)
	}
	hcl := s.hcl(config{vip: requireWeb}) + checkWeb
	for _, h := range s.Servers {
		s.startFrom(h, s.configure(h, hcl))
	}
	s.awaitWithin(2*soon, s.allBound())
	s.settled()
	s.NoError(webs[h1].Kill())
	s.awaitWithin(2*soon, s.allOnOthers(h1))
	s.settled()
	s.running(s.instances...)
}

// TestConsulServiceCheck follows the health of a service that is registered with the local
// Consul agent.
func TestConsulServiceCheck(t *testing.T) {
	s := newScene(t)
	h1 := s.Servers[0]
	webs := map[*lab.Host]*lab.Process{}
	for _, h := range s.Servers {
		webs[h] = s.web(h, 200)
		file, err := h.WriteFile("web.hcl", []byte(`service {
  name = "web-`+s.name+`"
  port = 8080
  check {
    id       = "web-`+s.name+`"
    http     = "http://127.0.0.1:8080/"
    interval = "500ms"
    timeout  = "400ms"
  }
}
`))
		s.NoError(err)
		s.consulCLI(h, "services", "register", file)
		t.Cleanup(func() { s.NoError(s.Cluster.Of(h).API.Agent().ServiceDeregister("web-" + s.name)) })
	}
	s.startServices(`check "web" { service = "web-`+s.name+"\" }\n", requireWeb)
	s.await(s.served(h1))
	s.NoError(webs[h1].Kill())
	next := s.takenOver(h1)
	s.await(s.served(next))
	s.await(s.noteSays(h1, "h1 is not fit: check web: "))
	s.running(s.instances...)
}
