package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// consulLock is Consul's own "consul lock" around the script that operators
// write for it.
type consulLock struct{}

func (consulLock) name() string            { return "consul lock" }
func (consulLock) needsConsul() bool       { return true }
func (consulLock) killsAll() bool          { return false }
func (consulLock) oldKeepsAnswering() bool { return true }
func (consulLock) elects() bool            { return false }

// lockScript binds the address, announces it every five seconds, and removes it
// when it's told to end. It also ends when the bench itself has: nobody kills it
// if its "consul lock" was killed.
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
	script := filepath.Join(h.Dir, e.id()+".sh")
	arping := arpingCommand(e.programs.arping, e.addr.String())
	text := fmt.Sprintf(lockScript, e.addr, os.Getpid(), arping)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		return lab.Command{}, err
	}
	// A key of its own for every repetition: no lock-delay is left over from the
	// one before.
	return lab.Command{Args: []string{
		e.programs.consul, "lock", "-child-exit-code", "-shell=false", "bench/" + e.id(), "/bin/sh", script,
	}}, nil
}

// arpingCommand returns how to announce an address once by either of the two
// programs of that name. iputils' takes the sender's address from the target.
func arpingCommand(path, addr string) string {
	command := path + " -q -U -c 1 -I eth0 "
	// Its exit code says nothing here: the other program knows no -V alone.
	out, _ := exec.Command(path, "-V").CombinedOutput()
	if !strings.Contains(string(out), "iputils") {
		command += "-S " + addr + " "
	}
	return command + addr
}

// ready wants the address on the owner. A standby only has to run, it says nothing.
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
