package integration

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
	"github.com/consul-vip/consul-vip/internal/cloudapi"
)

// cloud is a provider's API, and what its hook needs.
type cloud struct {
	script   string
	api      http.Handler
	setFault func(cloudapi.Fault)
	attached func() []string // the machines that have the address
	machines map[string]string
	env      func(url, machine string) []string
}

func hetznerCloud(vip string) cloud {
	const token, id = "a-token", 4711
	api := cloudapi.NewHetzner(cloudapi.HetznerConfig{Token: token, Polls: 1, FloatingIPs: []cloudapi.FloatingIP{{ID: id, IP: vip}}})
	return cloud{
		script: "hetzner.sh", api: api, setFault: api.SetFault, machines: map[string]string{"h1": "41", "h2": "42"},
		attached: func() []string {
			if server := api.Server(id); server != 0 {
				return []string{fmt.Sprint(server)}
			}
			return nil
		},
		env: func(url, machine string) []string {
			return []string{"HCLOUD_ENDPOINT=" + url + "/v1", "HCLOUD_TOKEN=" + token, "HCLOUD_SERVER_ID=" + machine, "HCLOUD_CONFIRM_DELAY=3"}
		},
	}
}

func exoscaleCloud(vip string) cloud {
	const key, secret, id = "EXOkey", "a-secret", "a02baf5a-a3e4-49a0-857b-8a08d276c1c0"
	machines := map[string]string{"h1": "11111111-1111-4111-8111-111111111111", "h2": "22222222-2222-4222-8222-222222222222"}
	api := cloudapi.NewExoscale(cloudapi.ExoscaleConfig{
		Key: key, Secret: secret, Polls: 1, Instances: []string{machines["h1"], machines["h2"]}, ElasticIPs: map[string]string{id: vip},
	})
	return cloud{
		script: "exoscale.sh", api: api, setFault: api.SetFault, machines: machines,
		attached: func() []string { return api.Attached(id) },
		env: func(url, machine string) []string {
			return []string{
				"EXOSCALE_API_ENDPOINT=" + url + "/v2", "EXOSCALE_API_KEY=" + key, "EXOSCALE_API_SECRET=" + secret,
				"EXOSCALE_INSTANCE_ID=" + machine, "EXOSCALE_ZONE=ch-gva-2",
			}
		},
	}
}

// hookOf is a configuration whose hook attaches the address to a host's machine.
func (s *scene) hookOf(c cloud, url string, h *lab.Host) string {
	s.t.Helper()
	root, err := lab.ModuleRoot()
	s.NoError(err)
	command := append([]string{"/usr/bin/env"}, c.env(url, c.machines[h.Name])...)
	command = append(command, filepath.Join(root, "examples", "cloud", c.script))
	return s.head(config{}) + block(s.vip, "bind = false") + fmt.Sprintf(`
hook "cloud" {
  on      = ["acquired", "released", "lost", "conflict"]
  command = ["%s"]
  timeout = "30s"
}
`, strings.Join(command, `", "`))
}

// attachedTo is met when the provider sends the address to these machines.
func (c cloud) attachedTo(hosts ...*lab.Host) condition {
	want := []string{}
	for _, h := range hosts {
		want = append(want, c.machines[h.Name])
	}
	return condition{fmt.Sprintf("the address to be attached to %v", names(hosts)), func() error {
		if got := c.attached(); !slices.Equal(got, want) && len(got)+len(want) > 0 {
			return fmt.Errorf("%v", got)
		}
		return nil
	}}
}

// TestCloudAddress has hooks move an address of a cloud, which no host has bound and nobody
// announces.
func TestCloudAddress(t *testing.T) {
	t.Parallel()
	for name, provider := range map[string]func(vip string) cloud{"Hetzner": hetznerCloud, "Exoscale": exoscaleCloud} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			h1, h2 := s.Servers[0], s.Servers[1]
			c := provider(s.vip.String())
			listener, err := s.Observer.Listen("tcp", net.JoinHostPort(s.Observer.Addr.String(), "0"))
			s.NoError(err)
			server := &http.Server{Handler: c.api}
			go func() { _ = server.Serve(listener) }() // always fails, when Close is called
			t.Cleanup(func() { _ = server.Close() })
			url := "http://" + listener.Addr().String()

			c.setFault(cloudapi.TooManyRequests)
			p1 := s.startFrom(h1, s.configure(h1, s.hookOf(c, url, h1)))
			s.await(inState(p1, "active"))
			s.await(s.noteSays(h1, "failing on h1: hook cloud: exit status 1: "))
			s.Contains(s.status(h1).text("note"), "HTTP 429")
			s.holds(c.attachedTo())
			c.setFault(cloudapi.NoFault)
			s.await(c.attachedTo(h1))
			s.await(condition{"status to say nothing of a failure", func() error {
				r, err := s.statusRow(h1)
				if note := r.text("note"); err == nil && strings.Contains(note, "failing") {
					err = errors.New(note)
				}
				return err
			}})

			p2 := s.startFrom(h2, s.configure(h2, s.hookOf(c, url, h2)))
			s.await(s.memberOn(h2))
			s.succeed(h1, "move", s.vip.String(), "-to=h2")
			s.await(c.attachedTo(h2))
			s.holds(s.unbound())
			s.await(condition{"the end of the hook of h1", func() error {
				if n := len(logged(p1, "a hook has run")); n != 2 { // acquired, at last, and released
					return fmt.Errorf("%d runs", n)
				}
				return nil
			}})
			s.await(logs(p2, "a hook has run", 1))
			s.await(c.attachedTo(h2))
			s.succeed(h1, "unpin", s.vip.String())

			// The loss of the lock detaches the address before the process ends.
			s.stop(p1)
			s.destroySession()
			s.exits(p2, 4, soon)
			s.holds(c.attachedTo())
			s.Empty(s.observer.Owned(s.vip), "nobody answers for the address on the wire")
			s.Empty(s.observer.Announced(s.vip))
			_, err = h1.Run(t.Context(), lab.Command{Args: []string{s.ConsulVIP, "probe", "-config=" + filepath.Join(h1.Dir, s.name+".hcl")}})
			s.NoError(err, "it leaves the address out")

			p1 = s.startFrom(h1, s.configure(h1, s.hookOf(c, url, h1)))
			s.await(c.attachedTo(h1))
			s.signal(p1, syscall.SIGTERM)
			s.exits(p1, 0, stopTime+soon)
			s.holds(c.attachedTo())
		})
	}
}
