package lease

import "github.com/consul-vip/consul-vip/lease/state"

// InLine returns how many other members would take a lock from its holder, as s shows
// it, rather than this process. It returns false if this process is not a candidate.
func (k *Keeper) InLine(s *state.State, name string) (position int, ok bool) {
	own, _ := k.session.Get()
	if own == nil {
		return 0, false
	}
	return s.InLine(name, s.Locks[name].Record.Node, own.id)
}
