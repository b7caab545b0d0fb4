package integration

import (
	"bytes"
	"io"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestSnapshotRestored restores a snapshot of Consul from before the owner had its lock,
// while the address is served. The owner notices that its lock is gone, although the
// index of the keys has gone back.
func TestSnapshotRestored(t *testing.T) {
	s := newSceneIn(t, ownLab(t, lab.Clients.Cluster()))
	h1, h2 := s.Servers[0], s.Servers[1]
	var snapshot []byte
	s.retry("saving a snapshot", func() error {
		text, _, err := s.server.API.Snapshot().Save(nil)
		if err != nil {
			return err
		}
		defer text.Close()
		snapshot, err = io.ReadAll(text)
		return err
	})
	procs := s.startOn(config{}, h1, h2)
	session := s.session()

	s.NoError(s.server.API.Snapshot().Restore(nil, bytes.NewReader(snapshot)))
	s.Nil(s.get(lockKey(s.vip)), "the lock is gone")
	s.exits(procs[0], 4, holdTime+slack)
	s.holds(s.notOn(h1))
	s.ownedAnew(session)
	s.await(s.ownedBy(h2))
	s.seen(h1, h2)
}
