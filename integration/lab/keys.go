package lab

import (
	"net/netip"
	"strings"
)

// Keys names the keys that consul-vip keeps in Consul, all below this prefix. The
// names are written here once more, and not imported: they are consul-vip's
// interface, and a test of it has to notice a change.
type Keys string

// DefaultKeys are the keys of a configuration that does not set a prefix.
const DefaultKeys Keys = "consul-vip"

// All is what the names of all keys begin with.
func (k Keys) All() string { return string(k) + "/" }

// VIP is what the names of all keys of an address begin with, without the slash that
// follows. It is also the prefix to give to "consul lock".
func (k Keys) VIP(vip netip.Addr) string { return k.All() + vip.String() }

// Lock is the lock of an address.
func (k Keys) Lock(vip netip.Addr) string { return k.VIP(vip) + "/.lock" }

// Pin names the only node that may have an address.
func (k Keys) Pin(vip netip.Addr) string { return k.VIP(vip) + "/pin" }

// Release asks the node that it names to release an address.
func (k Keys) Release(vip netip.Addr) string { return k.VIP(vip) + "/release" }

// Drain asks a node to release all addresses.
func (k Keys) Drain(node string) string { return k.All() + ".drain/" + node }

// Members is what the names of all member keys begin with.
func (k Keys) Members() string { return k.All() + ".members/" }

// Member is the key by which an instance is a member.
func (k Keys) Member(node string) string { return k.Members() + node }

// LockOf returns the address whose lock this key is, if it is a lock.
func (k Keys) LockOf(key string) (vip netip.Addr, ok bool) {
	rest, below := strings.CutPrefix(key, k.All())
	name, isLock := strings.CutSuffix(rest, "/.lock")
	vip, err := netip.ParseAddr(name)
	return vip, below && isLock && err == nil
}

// MemberOf returns the node whose member key this key is, if it is one.
func (k Keys) MemberOf(key string) (node string, ok bool) { return strings.CutPrefix(key, k.Members()) }
