package announcer

import (
	"net/netip"
	"slices"
	"sync"
)

// subscribers holds the subscribers of each address. The zero value is ready to use.
// It is safe for concurrent use.
type subscribers[S comparable] struct {
	mu     sync.RWMutex       // guards all following fields
	byAddr map[netip.Addr][]S // slices are replaced, never changed
}

// of returns the subscribers of addr. The caller must not change the slice.
func (ss *subscribers[S]) of(addr netip.Addr) []S {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	return ss.byAddr[addr]
}

// add adds s. It calls subscribed under the lock, so a frame that was dispatched
// without s was received before that call.
func (ss *subscribers[S]) add(addr netip.Addr, s S, subscribed func()) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.byAddr == nil {
		ss.byAddr = make(map[netip.Addr][]S)
	}
	subscribed()
	ss.byAddr[addr] = append(slices.Clip(ss.byAddr[addr]), s)
}

// remove removes s if it is there.
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
