package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// consulLock is Consul's own "consul lock", with a script as an operator may write it.
type consulLock struct{}

func (consulLock) name() string            { return "consul lock" }
func (consulLock) needsConsul() bool       { return true }
func (consulLock) killsAll() bool          { return false }
func (consulLock) oldKeepsAnswering() bool { return true }
func (consulLock) elects() bool            { return false }
func (consulLock) lockKey(e *entry) string { return "bench/" + e.id() + "/.lock" }

// lockScript binds the address, announces it every five seconds, and removes it when
// it gets a signal to end. It also ends when the benchmark has ended: if its "consul
// lock" was killed, nothing else ends it.
const lockScript = `#!/bin/sh
trap 'ip address del %[1]s/32 dev eth0; exit 0' TERM INT
ip address replace %[1]s/32 dev eth0
while kill -0 %[2]d 2>/dev/null; do
	%[3]s >/dev/null 2>&1 &
	sleep 5 &
	wait $!
done
`

func (consulLock) command(e *entry, h *lab.Host, _ int) (lab.Command, error) {
	arping := arpingCommand(e.programs.arping, e.addr.String())
	script, err := h.WriteFile(e.id()+".sh", fmt.Appendf(nil, lockScript, e.addr, os.Getpid(), arping))
	// Every repetition has a key of its own, without a lock-delay of an earlier one.
	return lab.Command{Args: []string{
		e.Consul, "lock", "-child-exit-code", "-shell=false", "bench/" + e.id(), "/bin/sh", script,
	}}, err
}

// arpingCommand returns how to announce an address once. Two programs have the name
// arping; the one of iputils takes the sender's address from the target.
func arpingCommand(path, addr string) string {
	command := path + " -q -U -c 1 -I eth0 "
	// The error does not matter: the other program rejects -V without a target.
	out, _ := exec.Command(path, "-V").CombinedOutput()
	if !strings.Contains(string(out), "iputils") {
		command += "-S " + addr + " "
	}
	return command + addr
}

// ready looks for the address on the owner. A standby only has to run, because it
// reports nothing.
func (consulLock) ready(e *entry, p *lab.Process, rank int) error {
	if !p.Running() {
		return fmt.Errorf("consul lock on %s has ended", p.Host.Name)
	}
	if rank != 0 {
		return nil
	}
	owns, err := p.Host.Owns(context.Background(), e.addr)
	if err == nil && !owns {
		err = errors.New("the address is not bound on " + p.Host.Name)
	}
	return err
}
