package state

// InLine returns how many candidates for a lock come before the member with a session
// if the lock leaves node. It returns false if that member is not a candidate.
func (s *State) InLine(name, node, session string) (position int, ok bool) {
	pin := s.Pin(name)
	for _, c := range s.rankings.successors(node)[name] {
		switch {
		case pin != "" && pin != c.Node:
		case c.Session == session:
			return position, true
		default:
			position++
		}
	}
	return 0, false
}
