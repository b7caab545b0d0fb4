package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// localStatus is what "consul-vip status -local -json" prints, as far as the tests read it.
type localStatus struct {
	Node   string `json:"node"`
	Consul struct {
		Answers bool   `json:"answers"`
		Error   string `json:"error"`
		Session string `json:"session"`
	} `json:"consul"`
	Addresses []struct {
		VIP          string `json:"vip"`
		State        string `json:"state"`
		Owner        string `json:"owner"`
		HoldLeft     *int64 `json:"hold_left_ms"`
		LifetimeLeft *int64 `json:"lifetime_left_ms"`
		Fitness      string `json:"fitness"`
	} `json:"addresses"`
	Checks []struct {
		Name string `json:"name"`
		Fit  bool   `json:"fit"`
	} `json:"checks"`
	HostChecks []struct {
		Node  string `json:"node"`
		State string `json:"state"`
	} `json:"host_checks"`
	Transitions []struct {
		To string `json:"to"`
	} `json:"transitions"`
}

// socketOf is the path of the socket of a host's instance.
func (s *scene) socketOf(h *lab.Host) string { return filepath.Join(h.Dir, s.name+".sock") }

// startLocal starts an instance with a socket and a check on a host.
func (s *scene) startLocal(h *lab.Host, c config) *lab.Process {
	s.t.Helper()
	return s.startFrom(h, s.configure(h, fmt.Sprintf("socket = %q\n", s.socketOf(h))+s.hcl(c)+checkWeb))
}

// local asks the instance of a host for its status, which must answer.
func (s *scene) local(h *lab.Host) (status localStatus) {
	s.t.Helper()
	r := s.command(h, "status", "-local", "-json", "-socket="+s.socketOf(h))
	s.Zero(r.code, r.stderr)
	s.NoError(json.Unmarshal([]byte(r.stdout), &status))
	s.Len(status.Addresses, len(s.vips))
	return status
}

// localIs is met when the instance of a host tells of a status that passes a test.
func (s *scene) localIs(h *lab.Host, expected string, test func(localStatus) bool) condition {
	return condition{"status -local on " + h.Name + " to show " + expected, func() error {
		if status := s.local(h); !test(status) {
			return fmt.Errorf("%+v", status)
		}
		return nil
	}}
}

// TestLocalStatus asks an owner and a standby for their status, before and after Consul loses
// its quorum, and when they have ended.
func TestLocalStatus(t *testing.T) {
	s := newScene(t)
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	c := config{sessionTTL: 30 * time.Second, deadMan: longDeadMan, vip: requireWeb}
	s.web(h1, http.StatusOK)
	s.web(h2, http.StatusOK)
	owner := s.startLocal(h1, c)
	s.await(inState(owner, "active"))
	standby := s.startLocal(h2, c)
	s.await(inState(standby, "standby"))
	s.await(s.memberOn(h2))
	s.await(s.ownedBy(h1))

	for _, h := range []*lab.Host{h1, h2} {
		info, err := os.Lstat(s.socketOf(h))
		s.NoError(err)
		s.Equal(fs.ModeSocket|0o600, info.Mode())
	}
	session := s.session()
	s.await(s.localIs(h1, "the owner", func(l localStatus) bool {
		a := l.Addresses[0]
		return l.Node == h1.Name && l.Consul.Answers && session[:8] == l.Consul.Session && len(l.Transitions) == 3 &&
			a.VIP == s.vip.String() && a.State == "active" && a.Owner == h1.Name && a.HoldLeft != nil && a.LifetimeLeft != nil &&
			a.Fitness == "fit" && len(l.Checks) == 1 && l.Checks[0].Fit
	}))
	s.await(s.localIs(h2, "a standby that checks the owner's host", func(l localStatus) bool {
		a := l.Addresses[0]
		return a.State == "standby" && a.Owner == h1.Name && a.HoldLeft == nil && a.LifetimeLeft == nil && a.Fitness == "fit" &&
			len(l.HostChecks) == 1 && l.HostChecks[0].Node == h1.Name && l.HostChecks[0].State == "alive"
	}))
	table := s.succeed(h1, "status", "-local", "-socket="+s.socketOf(h1))
	s.Regexp(fmt.Sprintf(`(?m)^%s +active +\S+ +eth0 +%s +[\d.]+s +[\d.]+s +yes$`, s.vip, h1.Name), table)
	s.Regexp(`(?m)^web +fit `, table)
	s.Regexp(`(?m)^\S+ +\S+ +acquired +active +address bound$`, table)

	s.killConsul(h2, h3)
	s.await(s.localIs(h1, "that Consul does not answer", func(l localStatus) bool { return !l.Consul.Answers && l.Consul.Error != "" }))
	s.await(s.localIs(h2, "that Consul does not answer", func(l localStatus) bool { return !l.Consul.Answers }))
	before := s.local(h1).Addresses[0]
	s.pass(calm)
	after := s.local(h1).Addresses[0]
	s.Equal("active", after.State)
	s.Less(*after.HoldLeft, *before.HoldLeft-calm.Milliseconds()/2, "it comes nearer to its hold deadline")
	s.Positive(*after.HoldLeft)
	s.Contains(s.succeed(h1, "status", "-local", "-socket="+s.socketOf(h1)), "Consul: no answer for ")

	s.stop(owner)
	r := s.fail(h1, "status", "-local", "-socket="+s.socketOf(h1))
	s.Contains(r.stderr, s.socketOf(h1)+": no agent listens there: start the agent")
	_, err := os.Lstat(s.socketOf(h1))
	s.True(errors.Is(err, fs.ErrNotExist), "%v", err)
	s.seen(h1)
}
