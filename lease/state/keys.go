package state

import "strings"

// The keys below the prefix: each lock has a folder of its name, and two more
// folders have one key for each node.
const (
	lockBase    = ".lock"
	pinBase     = "pin"
	releaseBase = "release"
	membersDir  = ".members"
	drainDir    = ".drain"
)

// Keys names the keys below a prefix of Consul's KV store.
type Keys struct {
	prefix string // without slashes at its ends
}

// NewKeys returns the names below prefix. Slashes at its ends do not matter.
func NewKeys(prefix string) Keys { return Keys{strings.Trim(prefix, "/")} }

// Folder is the folder of all keys, with a slash at its end.
func (k Keys) Folder() string { return k.prefix + "/" }

// Lock is the key of a lock. The holder's session is on it, its value is a
// [Record].
func (k Keys) Lock(name string) string { return k.key(name, lockBase) }

// Pin is the key with which an operator allows a lock to one node only, or to
// [Nobody].
func (k Keys) Pin(name string) string { return k.key(name, pinBase) }

// Release is the key with which an operator asks the node it names to release a
// lock once.
func (k Keys) Release(name string) string { return k.key(name, releaseBase) }

// Member is the key of a node's instance. The instance's session is on it, its
// value is a [Member].
func (k Keys) Member(node string) string { return k.key(membersDir, node) }

// Drain is the key with which an operator allows a node no lock, for as long as
// the key exists.
func (k Keys) Drain(node string) string { return k.key(drainDir, node) }

func (k Keys) key(dir, base string) string { return k.prefix + "/" + dir + "/" + base }

// split returns the folder and the base of a key below the prefix.
func (k Keys) split(key string) (dir, base string, ok bool) {
	key = strings.TrimPrefix(key, k.Folder())
	i := strings.LastIndexByte(key, '/')
	if i < 0 {
		return "", "", false
	}
	return key[:i], key[i+1:], true
}
