package netif

import (
	"net/netip"
	"sync"
)

// bindings are the addresses that one Host has bound and not unbound. A kernel before
// Linux 5.18 drops the tag that tells them from the host's own ones.
type bindings struct {
	mu    sync.Mutex // guards bound
	bound map[binding]*Address
}

type binding struct {
	index  int
	prefix netip.Prefix
}

func (b *bindings) add(a *Address) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bound == nil {
		b.bound = make(map[binding]*Address)
	}
	b.bound[binding{a.index, a.prefix}] = a
}

// remove removes a unless a later Bind has bound the same address.
func (b *bindings) remove(a *Address) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := binding{a.index, a.prefix}
	if b.bound[key] == a {
		delete(b.bound, key)
	}
}

func (b *bindings) has(index int, p netip.Prefix) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bound[binding{index, p}] != nil
}
