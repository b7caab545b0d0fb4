package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// drainTime is how long the output of an ended process is waited for, should a
// child of that process still hold it.
const drainTime = time.Second

// Command says what to run on a host.
type Command struct {
	Args  []string  // the program and its arguments
	Env   []string  // besides the lab's own environment, as in "KEY=value"
	Stdin io.Reader // nil: empty
}

// Process is a program that was started on a host. It's the only thing that
// the lab ever sends a signal to. All methods are safe for concurrent use.
type Process struct {
	*Output // what the program wrote to its standard output and error

	Host *Host

	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of cmd.Wait, once ended is closed
}

// Start starts a program on the host, in a process group of its own. It's killed
// when the host goes, at the latest by the kernel when the lab's process ends.
func (h *Host) Start(c Command) (*Process, error) {
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdin = c.Stdin
	cmd.Dir = h.Dir
	cmd.WaitDelay = drainTime
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{Output: new(Output), Host: h, cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Output, p.Output
	if err := h.ns.do(cmd.Start); err != nil {
		return nil, fmt.Errorf("%s on %s: %w", c.Args[0], h.Name, err)
	}
	h.mu.Lock()
	h.processes = append(h.processes, p)
	h.mu.Unlock()
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Run runs a program on the host to its end and returns what it wrote to its
// standard output. The error of a program that failed is an [exec.ExitError]
// and says what it wrote to its standard error.
func (h *Host) Run(ctx context.Context, c Command) ([]byte, error) {
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, &stdout, &stderr
	cmd.Dir = h.Dir
	cmd.WaitDelay = drainTime
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := h.ns.do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%q on %s: %w: %s", c.Args, h.Name, err, strings.TrimSpace(stderr.String()))
	}
	return []byte(stdout.String()), err
}

// PID returns the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process. It's an error if the process has ended.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Ended is closed when the process has ended and its output is complete.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Running says if the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Wait waits for the process's end and returns its exit code, -1 if a signal
// killed it. The error is ctx's cause if ctx ends before.
func (p *Process) Wait(ctx context.Context) (code int, err error) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s on %s has not ended: %w", p.cmd.Args[0], p.Host.Name, context.Cause(ctx))
	}
}

// Kill ends the process with SIGKILL and waits for its end. To kill what has
// ended already is no error.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	<-p.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
