package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// standInConfig is a web server in place of Traefik: it answers every request with the
// host's name, and /ping with 200 while a file exists.
const standInConfig = nginxHead + `
  server {
    listen 80;
    location / { return 200 "%s"; }
  }
  server {
    listen 8082;
    location = /ping {
      if (!-f %s) { return 500; }
      return 200;
    }
  }
}
`

// traefikScene is a scene in which the job's Traefik is a web server.
type traefikScene struct{ *jobScene }

// newTraefikScene prepares a scene; no job runs yet, and Traefik will be healthy nowhere.
func newTraefikScene(t *testing.T, vip netip.Addr) traefikScene {
	t.Helper()
	s := traefikScene{newJobScene(t, "consul-vip-traefik.nomad.hcl", vip)}
	for _, h := range s.Servers {
		_, err := h.WriteFile("traefik/nginx.conf", fmt.Appendf(nil, standInConfig, h.Name, s.healthFile(h)))
		s.NoError(err)
		s.sicken(h)
		s.await(s.portFree(h, 80))
	}
	// Each client replaces the reference, to which HCL makes "$$".
	dir := filepath.Join(filepath.Dir(s.Servers[0].Dir), "$${node.unique.name}", "traefik")
	s.vars = append(
		s.vars, fmt.Sprintf("-var=vips=[%q]", vip), "-var=when_none_fit=release", "-var=traefik=nginx",
		fmt.Sprintf(`-var=traefik_args=["-e", "stderr", "-p", %q, "-c", "nginx.conf"]`, dir),
	)
	return s
}

// portFree is met when nothing listens at a port of a host. Nomad ends the tasks of a job
// that is purged only after the command has returned.
func (s traefikScene) portFree(h *lab.Host, port uint16) condition {
	return condition{fmt.Sprintf("nothing at port %d of %s", port, h.Name), func() error {
		ctx, cancel := context.WithTimeout(s.t.Context(), slack)
		defer cancel()
		conn, err := h.Dial(ctx, "tcp", netip.AddrPortFrom(h.Loopback, port).String())
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return nil
		case err == nil:
			err = errors.Join(errors.New("it is open"), conn.Close())
		}
		return err
	}}
}

// healthFile is the file that makes the web server of a host healthy.
func (s traefikScene) healthFile(h *lab.Host) string {
	return filepath.Join(h.Dir, "traefik", "healthy")
}

// heal makes the web server of a host healthy, and sicken ends that.
func (s traefikScene) heal(h *lab.Host) {
	s.t.Helper()
	s.NoError(os.WriteFile(s.healthFile(h), nil, 0o644))
}

func (s traefikScene) sicken(h *lab.Host) {
	s.t.Helper()
	s.NoError(os.RemoveAll(s.healthFile(h)))
}

// fit waits until hosts contend as fit.
func (s traefikScene) fit(hosts ...*lab.Host) {
	s.t.Helper()
	for _, h := range hosts {
		s.await(s.memberWith(h, s.vip, 100))
	}
}

// cannotTakeIt requires that an operator who wants the address on a host is told why not.
func (s traefikScene) cannotTakeIt(h *lab.Host, why string) {
	s.t.Helper()
	s.Contains(s.fail(h, "move", s.vip.String(), "-to="+h.Name).stderr, why)
}

// moved waits until the address is on another host than old, whose web server a client
// reaches, and returns it. The address must have moved as in a planned stop.
func (s traefikScene) moved(old *lab.Host) *lab.Host {
	s.t.Helper()
	next := s.takenOver(old)
	s.await(s.servedAt(80, next))
	s.Less(s.client.Report().Longest().Length(), longestGap, "time without an answer")
	return next
}

// TestNomadTraefik follows a web server in place of Traefik, which Nomad runs and registers
// in Consul.
func TestNomadTraefik(t *testing.T) {
	s := newTraefikScene(t, netip.MustParseAddr("10.77.2.5"))
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	s.heal(h2)
	s.submit("-detach")
	s.awaitWithin(2*soon, s.ownedBy(h2))
	s.await(s.servedAt(80, h2))
	s.Equal([]string{h2.Name}, s.client.Report().Hosts(), "hosts that answered the client")
	s.heal(h1)
	s.heal(h3)
	s.fit(h1, h2, h3)
	s.restartClient()

	s.await(s.ownedBy(h2))
	s.sicken(h2)
	owner := s.moved(h2)
	s.cannotTakeIt(h2, "check traefik: ping is critical: HTTP GET http://"+h2.Addr.String()+":8082/ping: 500 Internal Server Error")
	s.heal(h2)
	s.fit(h2)

	// Nomad stops it, and takes it out of Consul before.
	a, err := s.nomad.Allocation(job, "traefik", owner)
	s.NoError(err)
	s.operate("alloc", "stop", "-detach", a.ID)
	last := s.moved(owner)
	s.cannotTakeIt(owner, "check traefik: it is not registered with this host's Consul agent")

	for _, h := range s.Servers {
		s.sicken(h)
	}
	s.await(s.unbound())
	s.await(s.statusIs(h1, "free"))
	for _, h := range s.Servers {
		s.await(s.noteSays(h1, h.Name+" cannot take it: check traefik: "))
	}
	s.heal(last)
	s.await(s.ownedBy(last))
	s.await(s.servedAt(80, last))
}
