package announcer

import (
	"net/netip"
	"slices"
	"sync"
)

// subscribers holds who wants to hear of which address. It is safe for
// concurrent use.
type subscribers[S comparable] struct {
	mu     sync.RWMutex
	byAddr map[netip.Addr][]S // slices are replaced, never changed
}

// of returns the subscribers of addr, not to be changed.
func (ss *subscribers[S]) of(addr netip.Addr) []S {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	return ss.byAddr[addr]
}

// add adds s from the moment in which it calls admitted. The lock makes that
// moment exact: a frame judged before it was received before, too.
func (ss *subscribers[S]) add(addr netip.Addr, s S, admitted func()) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.byAddr == nil {
		ss.byAddr = make(map[netip.Addr][]S)
	}
	admitted()
	ss.byAddr[addr] = append(slices.Clip(ss.byAddr[addr]), s)
}

func (ss *subscribers[S]) remove(addr netip.Addr, s S) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(ss.byAddr[addr]), func(o S) bool { return o == s })
	if len(rest) == 0 {
		delete(ss.byAddr, addr)
		return
	}
	ss.byAddr[addr] = rest
}
