package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// oldEnv names the binary of the version before, for TestRollingUpgrade.
	oldEnv = "INTEGRATION_OLD"
	// oldCommit is the last commit of the version before. Its binary is built if none is
	// named.
	oldCommit = "354dd65"
)

// TestRollingUpgrade replaces the version before by the new one, one host after the
// other, and then goes back. Every stop of an owner is a handover, with the other version
// too.
func TestRollingUpgrade(t *testing.T) {
	old := oldBinary(t)
	s := newClientsScene(t)
	u := &upgrade{scene: s, binaries: make(map[*lab.Host]string), names: map[string]string{old: "old", s.ConsulVIP: "new"}}
	for _, h := range s.Servers {
		u.start(h, old)
		s.await(s.memberOn(h))
	}
	s.owner()
	u.replaceAll("restart of the old one", old)
	u.replaceAll("upgrade", s.ConsulVIP)
	u.replaceAll("restart of the new one", s.ConsulVIP)
	u.replaceAll("way back", old)
	for _, p := range s.instances {
		s.Zero(mentioned(p, "no release from the previous owner"), "unclean takeovers of %s", p.Host.Name)
		for _, e := range p.Entries() {
			s.NotEqual("error", e.Get("@level"), "%v", e)
		}
	}
}

// upgrade is a scene with instances of two versions.
type upgrade struct {
	*scene
	binaries map[*lab.Host]string // that run
	names    map[string]string    // of the binaries
}

// start starts an instance of a version.
func (u *upgrade) start(h *lab.Host, bin string) {
	u.t.Helper()
	u.startAs(h, lab.Command{Args: []string{bin, "agent", "-config=" + u.configure(h, u.hcl(config{}))}})
	u.binaries[h] = bin
}

// replaceAll replaces the instance of every host by one of a version. It begins with the
// owner, and goes on with the next owner if that is not replaced yet.
func (u *upgrade) replaceAll(what, bin string) {
	u.t.Helper()
	left := slices.Clone(u.Servers)
	for len(left) > 0 {
		i := max(0, slices.Index(left, u.owner()))
		u.replace(what, left[i], bin)
		left = slices.Delete(left, i, i+1)
	}
}

// replace stops the instance of a host, reports what the client saw of that, and starts
// another one.
func (u *upgrade) replace(what string, h *lab.Host, bin string) {
	u.t.Helper()
	owner, version := u.owner(), u.names[u.binaries[h]]
	u.restartClient()
	u.await(u.ownedBy(owner))
	u.stop(u.instanceOn(h))
	next := owner
	if h == owner {
		next = u.takenOver(h)
	}
	u.pass(calm)
	seen := u.client.Report()
	u.t.Logf("%s: stop of %s (%s), owner %s, then %s (%s): %v", what, h.Name, version, owner.Name, next.Name, u.names[u.binaries[next]], seen)
	u.Less(seen.Longest().Length(), longestGap, "time without an answer")

	u.start(h, bin)
	u.await(u.memberOn(h))
	for _, reader := range u.binaries {
		u.reads(reader, next)
	}
	u.await(u.ownedBy(next))
}

// reads requires that the status command of a version understands the keys.
func (u *upgrade) reads(bin string, owner *lab.Host) {
	u.t.Helper()
	u.retry("status of the "+u.names[bin]+" version", func() error {
		out, err := owner.Run(u.t.Context(), lab.Command{Args: []string{bin, "status", "-json", "-prefix=" + u.name}})
		if err != nil {
			return err
		}
		var rows []row
		if err := json.Unmarshal(out, &rows); err != nil {
			return err
		}
		if len(rows) != 1 || rows[0].text("state") != "held" || rows[0].text("node") != owner.Name {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// oldBinary returns the binary of the version before. It builds one if the repository has
// the commit.
func oldBinary(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv(oldEnv); bin != "" {
		abs, err := filepath.Abs(bin)
		require.NoError(t, err)
		return abs
	}
	root, err := lab.ModuleRoot()
	require.NoError(t, err)
	if err := exec.Command("git", "-C", root, "cat-file", "-e", oldCommit+"^{commit}").Run(); err != nil {
		t.Skipf("needs the binary of the version before: set %s, or use a git repository with the commit %s", oldEnv, oldCommit)
	}
	dir := t.TempDir()
	build := exec.Command("sh", "-ec", `git -C "$1" archive "$2" | tar -x -C "$3"; cd "$3"; CGO_ENABLED=0 go build -o consul-vip-old ./cmd/consul-vip`, "sh", root, oldCommit, dir)
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return filepath.Join(dir, "consul-vip-old")
}
