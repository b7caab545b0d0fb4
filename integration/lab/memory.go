package lab

import (
	"os"

	"golang.org/x/sys/unix"
)

// leastMemory is how much room a file system in memory must have for the data of the Consul
// agents, in bytes.
const leastMemory = 2 << 30

// memoryDir returns a directory on a file system in memory, or an empty string. A Consul agent
// answers nothing while it waits for a disk, to which it writes with every refresh of a check:
// what else the machine writes must not move addresses.
func memoryDir() string {
	const dir = "/dev/shm"
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || fs.Type != unix.TMPFS_MAGIC || int64(fs.Bavail)*fs.Bsize < leastMemory || unix.Access(dir, unix.W_OK|unix.X_OK) != nil {
		return ""
	}
	return dir
}

// makeDirs makes the directories of a segment: for the hosts' files, unless it is given one,
// and for Consul's data.
func (s *segment) makeDirs() (err error) {
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "consul-vip-lab-"); err != nil {
			return err
		}
		s.ownDirs = append(s.ownDirs, s.dir)
	}
	if s.data, err = os.MkdirTemp(memoryDir(), "consul-vip-lab-"); err != nil {
		return err
	}
	s.ownDirs = append(s.ownDirs, s.data)
	return nil
}
