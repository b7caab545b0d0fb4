package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// drainTime is how long to wait for the end of an ended process's output: a child of
// that process may keep it open.
const drainTime = time.Second

// Command says what to run on a host.
type Command struct {
	Args  []string  // the program and its arguments
	Env   []string  // "KEY=value", in addition to the environment of the lab's process
	Stdin io.Reader // nil: empty
}

// Process is a program that was started on a host. The lab sends signals to nothing
// else. All methods are safe for concurrent use.
type Process struct {
	*Output // what the program wrote to its standard output and error

	Host *Host

	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of cmd.Wait, once ended is closed
}

// Start starts a program on the host, in a process group of its own. Closing the lab
// kills it, and so does the kernel when the lab's process ends. A goroutine waits for
// its end; Kill, and so closing the lab, returns after that.
func (h *Host) Start(c Command) (*Process, error) {
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env = append(os.Environ(), append(h.env(), c.Env...)...)
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

// Run runs a program on the host to its end and returns its standard output. If the
// program fails, the error is an [exec.ExitError] and has its standard error.
func (h *Host) Run(ctx context.Context, c Command) ([]byte, error) {
	c.Env = append(h.env(), c.Env...)
	return h.ns.command(ctx, h.Name, h.Dir, c)
}

// env is the environment of every program on the host: it says where Consul is, unless
// that is where programs look for it anyway.
func (h *Host) env() []string {
	if h.Loopback.Is4() {
		return nil
	}
	return []string{"CONSUL_HTTP_ADDR=" + h.ConsulHTTP()}
}

// command runs a program in the namespace of the machine of this name, in a directory.
func (n *namespace) command(ctx context.Context, name, dir string, c Command) ([]byte, error) {
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, &stdout, &stderr
	cmd.Dir = dir
	cmd.WaitDelay = drainTime
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := n.do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%q on %s: %w: %s", c.Args, name, err, strings.TrimSpace(stderr.String()))
	}
	return []byte(stdout.String()), err
}

// PID returns the process's ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process. The error is [os.ErrProcessDone] if the
// process has ended.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Freeze stops the process as SIGSTOP does, and returns when all its threads have
// stopped: the kernel delivers the signal only when a thread runs, so on a busy machine
// the process goes on for a while. The error has ctx's cause if ctx ends first.
func (p *Process) Freeze(ctx context.Context) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return Await(ctx, p.frozen)
}

// frozen returns an error that shows a thread which has not stopped (proc(5), state T).
func (p *Process) frozen() error {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID()))
	if err != nil || len(files) == 0 {
		return errors.Join(err, errors.New("no thread"))
	}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !strings.Contains(string(stat), ") T ") {
			return fmt.Errorf("a thread runs: %s", stat)
		}
	}
	return nil
}

// Ended returns a channel that closes when the process has ended and its output is
// complete.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Wait waits for the process's end and returns its exit code, or -1 if a signal
// killed it. If ctx ends first, the error has ctx's cause.
func (p *Process) Wait(ctx context.Context) (code int, err error) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s on %s has not ended: %w", p.cmd.Args[0], p.Host.Name, context.Cause(ctx))
	}
}

// Kill ends the process with SIGKILL and waits for its end. It is no error if the
// process has already ended.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	<-p.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
