package lab

import "time"

// AgentCommand returns how to run consul-vip with a configuration file or a
// directory of them.
func (p Programs) AgentCommand(config string) Command {
	return Command{Args: []string{p.ConsulVIP, "agent", "-config=" + config}}
}

// StartAgent starts consul-vip on a host with a configuration, which it writes to a
// file of this name in the host's directory.
func (l *Lab) StartAgent(h *Host, name, hcl string) (*Process, error) {
	file, err := h.WriteFile(name, []byte(hcl))
	if err != nil {
		return nil, err
	}
	return h.Start(l.AgentCommand(file))
}

// Logged returns the log lines with this message.
func (o *Output) Logged(message string) []Entry {
	var found []Entry
	for _, e := range o.Entries() {
		if e.Message() == message {
			found = append(found, e)
		}
	}
	return found
}

// States returns the state of each address that consul-vip has logged last. An
// address without a state is not there.
func (o *Output) States() map[string]string {
	states := make(map[string]string)
	for _, e := range o.Logged("state changed") {
		states[e.Get("vip")] = e.Get("state")
	}
	return states
}

// Reaction returns how long after a foreign claim consul-vip had unbound the
// address, if it has logged that.
func (o *Output) Reaction() (after time.Duration, ok bool) {
	for _, e := range o.Entries() {
		if after, err := time.ParseDuration(e.Get("reaction")); err == nil {
			return after, true
		}
	}
	return 0, false
}
