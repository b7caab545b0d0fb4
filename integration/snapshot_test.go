package integration

import (
	"bytes"
	"io"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestSnapshotRestored restores a snapshot of Consul while the address is served. The
// owner notices that its lock is gone, although the index of the keys has gone back.
func TestSnapshotRestored(t *testing.T) {
	t.Parallel()
	w := ownLab(t, lab.Clients.Cluster())
	t.Run("without the session", func(t *testing.T) { testSnapshotWithoutSession(t, newSceneIn(t, w)) })
	t.Run("with another owner", func(t *testing.T) { testSnapshotWithAnotherOwner(t, newSceneIn(t, w)) })
}

// testSnapshotWithoutSession restores a snapshot from before there was an instance.
func testSnapshotWithoutSession(t *testing.T, s *scene) {
	h1, h2 := s.Servers[0], s.Servers[1]
	snapshot := s.snapshot()
	procs := s.startOn(config{}, h1, h2)
	session := s.session()
	s.restore(snapshot)
	if pair := s.get(lockKey(s.vip)); pair != nil {
		s.NotEqual(session, pair.Session, "the lock is gone, or another instance has it already")
	}
	s.exits(procs[0], 4, holdTime+slack)
	s.holds(s.notOn(h1))
	s.ownedAnew(session)
	s.await(s.ownedBy(h2))
	s.seen(h1, h2)
}

// testSnapshotWithAnotherOwner restores a snapshot in which the lock has another owner.
// The sessions of both are in it.
func testSnapshotWithAnotherOwner(t *testing.T, s *scene) {
	h1, h2 := s.Servers[0], s.Servers[1]
	procs := s.startOn(config{}, h1, h2)
	s.await(s.memberOn(h2))
	snapshot := s.snapshot()
	s.succeed(h1, "move", s.vip.String(), "-to="+h2.Name)
	s.await(s.ownedBy(h2))
	s.restore(snapshot)
	s.exits(procs[1], 4, holdTime+slack)
	s.awaitWithin(2*soon, s.ownedBy(h1))
	s.seen(h1, h2, h1)
	s.running(procs[0])
}

// snapshot saves all that Consul knows.
func (s *scene) snapshot() (snapshot []byte) {
	s.t.Helper()
	s.retry("saving a snapshot", func() error {
		text, _, err := s.server.API.Snapshot().Save(nil)
		if err != nil {
			return err
		}
		defer text.Close()
		snapshot, err = io.ReadAll(text)
		return err
	})
	return snapshot
}

// restore makes Consul know what it knew then.
func (s *scene) restore(snapshot []byte) {
	s.t.Helper()
	s.NoError(s.server.API.Snapshot().Restore(nil, bytes.NewReader(snapshot)))
}
