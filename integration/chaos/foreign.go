package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// foreign is what is not ours and claims addresses: forged frames and a machine that
// really has an address for a time. It counts the faults of this kind, because each may
// make one process exit with a conflict and no more. It is safe for concurrent use, except
// that host does not change.
type foreign struct {
	host *lab.Host

	mu     sync.Mutex // guards all following fields
	faults int        // that have begun
	exits  int        // of processes, because of a conflict
}

// begin counts a fault that begins.
func (f *foreign) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults++
}

// exited counts a process with this output that exited because of a conflict. It
// returns what is wrong with that.
func (f *foreign) exited(output string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exits++
	var problems []string
	if !strings.Contains(output, lab.Stranger().String()) && !strings.Contains(output, f.host.MAC.String()) {
		problems = append(problems, "it saw an address conflict without a claim by a stranger")
	}
	if f.exits > f.faults {
		problems = append(problems, fmt.Sprintf("of %d exits because of a conflict, it is the one too many for %d claims by strangers", f.exits, f.faults))
	}
	return problems
}

// has makes the host have an address while last runs. As most systems do, it announces
// the address once.
func (f *foreign) has(vip netip.Addr, last func()) error {
	f.begin()
	prefix := netip.PrefixFrom(vip, vip.BitLen())
	if err := f.host.AddAddress(serviceInterface, prefix); err != nil {
		return err
	}
	if err := f.host.Send(serviceInterface, lab.Claims(f.host.MAC, vip)[0]); err != nil {
		return err
	}
	last()
	return f.host.RemoveAddress(serviceInterface, prefix)
}

// involved reports whether the host is one of those that answered a question: that is no
// fault of consul-vip, which cannot prevent it.
func (f *foreign) involved(d lab.Double) bool { return slices.Contains(d.Hosts, f.host.Name) }
