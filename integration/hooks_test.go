package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// hookScript appends what it is told to a file, and calls consul-vip, which must not take
// that for settings.
const hookScript = `#!/bin/sh
cd "$(dirname "$0")"
echo "$CONSUL_VIP_HOOK_EVENT $CONSUL_VIP_HOOK_ADDRESS $CONSUL_VIP_HOOK_FAMILY $CONSUL_VIP_HOOK_INTERFACE $CONSUL_VIP_HOOK_NODE from=$CONSUL_VIP_HOOK_PREVIOUS_NODE" >>events
echo "$CONSUL_VIP_HOOK_REASON" >>reasons
%s validate %s >/dev/null || echo validate failed >>events
`

// hooked is the hook of a host: a script that keeps a diary.
type hooked struct {
	s    *scene
	h    *lab.Host
	file string // the diary
}

// withHook starts an instance on a host whose hook keeps a diary. It is fit as long as a
// file is there. The node has a name before Consul has answered.
func (s *scene) withHook(h *lab.Host) (*lab.Process, hooked) {
	s.t.Helper()
	dir := filepath.Join(h.Dir, s.name)
	s.NoError(os.Mkdir(dir, 0o755))
	s.NoError(os.WriteFile(filepath.Join(dir, "fit"), nil, 0o644))
	script := filepath.Join(dir, "hook")
	file := s.configure(h, s.hcl(config{vip: `require = ["file"]`})+fmt.Sprintf(`
node_name = %q
check "file" {
  command  = ["test", "-e", "%s/fit"]
  interval = "2s"
  timeout  = "1900ms"
  rise     = 1
  fall     = 2
}
hook "diary" {
  on      = ["acquired", "pre_release", "released", "lost", "conflict", "unfit", "fit"]
  command = [%q]
  timeout = "20s"
}
`, h.Name, dir, script))
	s.NoError(os.WriteFile(script, fmt.Appendf(nil, hookScript, s.ConsulVIP, file), 0o755))
	return s.startFrom(h, file), hooked{s, h, filepath.Join(dir, "events")}
}

// wrote is met when the diary has these entries since last, each an event and the node
// that had the address before.
func (d hooked) wrote(entries ...string) condition {
	family := "ipv4"
	if d.s.vip.Is6() {
		family = "ipv6"
	}
	var want []string
	for _, entry := range entries {
		event, from, _ := strings.Cut(entry, " ")
		want = append(want, fmt.Sprintf("%s %s %s eth0 %s from=%s", event, d.s.vip, family, d.h.Name, from))
	}
	return condition{fmt.Sprintf("the diary of %s to be %q", d.h.Name, want), func() error {
		text, _ := os.ReadFile(d.file)
		if got := strings.TrimSpace(string(text)); got != strings.Join(want, "\n") {
			return fmt.Errorf("%q", got)
		}
		return nil
	}}
}

// TestHooks has an address come and go for every reason.
func TestHooks(t *testing.T) {
	t.Parallel()
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSceneOfFamily(t, sharedLab(t), f)
			h1, h2 := s.Servers[0], s.Servers[1]
			p1, first := s.withHook(h1)
			s.await(s.ownedBy(h1))
			p2, second := s.withHook(h2)
			s.await(s.memberOn(h2))
			s.await(first.wrote("fit", "acquired"))
			s.await(second.wrote("fit"))

			// A planned move.
			s.restartClient()
			s.await(s.ownedBy(h1))
			s.succeed(h1, "move", s.vip.String(), "-to=h2")
			s.await(s.ownedBy(h2))
			s.await(first.wrote("fit", "acquired", "pre_release", "released"))
			s.await(second.wrote("fit", "acquired h1"))
			s.Less(s.client.Report().Longest().Length(), longestGap, "time without an answer")
			s.succeed(h1, "unpin", s.vip.String())

			// The service of the owner dies.
			s.NoError(os.Remove(filepath.Join(filepath.Dir(second.file), "fit")))
			s.await(s.ownedBy(h1))
			s.await(second.wrote("fit", "acquired h1", "unfit", "pre_release", "released"))
			s.await(first.wrote("fit", "acquired", "pre_release", "released", "acquired h2"))

			// A stranger claims the address: the hook has run when the process has ended.
			for _, claim := range f.claims {
				s.NoError(s.Observer.Send("eth0", claim(strangerMAC, s.vip)))
				break // another one might meet the next owner
			}
			s.exits(p1, 5, soon)
			s.holds(first.wrote("fit", "acquired", "pre_release", "released", "acquired h2", "conflict"))
			s.awaitWithin(2*soon, s.ownedBy(h2)) // nobody is fit
			s.await(second.wrote("fit", "acquired h1", "unfit", "pre_release", "released", "acquired h1"))

			s.destroySession()
			s.exits(p2, 4, soon)
			s.holds(second.wrote("fit", "acquired h1", "unfit", "pre_release", "released", "acquired h1", "lost"))
			reasons, err := os.ReadFile(filepath.Join(filepath.Dir(second.file), "reasons"))
			s.NoError(err)
			s.Contains(string(reasons), "check file: exit status 1\n")
			s.Regexp("(session|lock) lost", string(reasons))
		})
	}
}

// TestHooksThatHang holds a planned release up by a hook for that, and nothing else by any.
func TestHooksThatHang(t *testing.T) {
	t.Parallel()
	const hangs = `
hook "drain" {
  on      = ["pre_release"]
  command = ["sleep", "1000"]
  timeout = "2s"
}
hook "hangs" {
  on      = ["acquired", "lost", "released"]
  command = ["sh", "-c", "sleep 1000 & echo $! >>%[1]s; wait"]
  timeout = "3s"
}
hook "fails" {
  on      = ["acquired"]
  command = ["sh", "-c", "echo no disk; exit 3"]
}
`
	s := newScene(t)
	h1, h2 := s.Servers[0], s.Servers[1]
	pids := func(h *lab.Host) string { return filepath.Join(h.Dir, s.name+".pids") }
	var procs []*lab.Process
	for _, h := range []*lab.Host{h1, h2} {
		procs = append(procs, s.startFrom(h, s.configure(h, s.hcl(config{})+fmt.Sprintf(hangs, pids(h)))))
		s.await(s.memberOn(h))
		s.await(s.ownedBy(h1))
	}
	s.await(logs(procs[0], "a hook failed", 2))
	s.Equal([]string{"hangs", "fails"}, fields(logged(procs[0], "a hook failed"), "hook"))
	s.Contains(fmt.Sprint(fields(logged(procs[0], "a hook failed"), "output")), "no disk")

	s.restartClient()
	s.await(s.ownedBy(h1))
	began := time.Now()
	s.signal(procs[0], syscall.SIGTERM)
	s.await(s.ownedBy(h2))
	s.GreaterOrEqual(time.Since(began), 2*time.Second, "until the planned release")
	s.Less(s.client.Report().Longest().Length(), longestGap, "time without an answer")
	s.exits(procs[0], 0, 3*time.Second+stopTime+slack)

	s.destroySession()
	s.exits(procs[1], 4, 6*time.Second+slack)

	for _, h := range []*lab.Host{h1, h2} {
		text, err := os.ReadFile(pids(h))
		s.NoError(err)
		s.Len(strings.Fields(string(text)), 2)
		for _, pid := range strings.Fields(string(text)) {
			s.await(condition{"the end of the hook's child " + pid, func() error {
				stat, err := os.ReadFile("/proc/" + pid + "/stat")
				if err == nil && !strings.Contains(string(stat), ") Z ") { // its new parent may take no notice
					return errors.New(string(stat))
				}
				return nil
			}})
		}
	}
}

// fields are the values of a key in log lines.
func fields(entries []lab.Entry, key string) (values []string) {
	for _, e := range entries {
		values = append(values, e.Get(key))
	}
	return values
}

// TestReloadOfChecksAndHooks adds a check and a hook to an owner, changes and removes them. The
// address stays.
func TestReloadOfChecksAndHooks(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	h1 := s.Servers[0]
	p := s.startOn(config{}, h1)[0]
	held := s.tenure(p)
	diary := filepath.Join(h1.Dir, s.name+".diary")
	wrote := func(events string) condition {
		return condition{"the diary to be " + events, func() error {
			text, _ := os.ReadFile(diary)
			if got := strings.Join(strings.Fields(string(text)), " "); got != events {
				return errors.New(got)
			}
			return nil
		}}
	}
	reloads := 0
	reload := func(vip, more string) {
		s.configure(h1, s.hcl(config{vip: vip})+more)
		s.signal(p, syscall.SIGHUP)
		reloads++
		s.await(logs(p, "configuration reloaded", reloads))
	}
	check := func(command string) string {
		return fmt.Sprintf("check \"file\" {\n  command = [%s]\n  interval = \"2s\"\n  timeout = \"1900ms\"\n  rise = 1\n  fall = 2\n}\n", command)
	}
	hook := fmt.Sprintf("hook \"diary\" {\n  on = [\"acquired\", \"fit\", \"unfit\"]\n  command = [\"sh\", \"-c\", \"echo $CONSUL_VIP_HOOK_EVENT >>%s\"]\n}\n", diary)

	reload(`require = ["file"]`, check(`"false"`)+hook)
	s.await(wrote("unfit"))
	reload(`require = ["file"]`, check(`"true"`)+hook)
	s.await(wrote("unfit fit"))
	reload(`require = ["file"]`, check(`"false"`))
	s.await(s.noteSays(h1, "h1 is not fit: check file: exit status 1"))
	reload("", "")
	s.await(s.noteSays(h1, ""))
	s.holds(wrote("unfit fit"))
	held.unbroken()
}
