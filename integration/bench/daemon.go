package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// restartDelay is the time between the end of a daemon and its next start, as a
	// scheduler restarts it.
	restartDelay = time.Second

	// stopTimeout is how long a daemon may take to stop at the end of a repetition.
	stopTimeout = 10 * time.Second

	// markEnv is the environment variable that marks every process of a daemon, also
	// one whose parent has ended.
	markEnv = "INTEGRATION_BENCH"
)

// daemon is a program under supervision on one host: it starts again when it ends,
// until retire. All methods are safe for concurrent use.
type daemon struct {
	host    *lab.Host
	command lab.Command
	mark    string // "KEY=value" in the environment of its processes

	quit chan struct{} // closed by retire
	done chan struct{} // closed when supervise returns

	mu        sync.Mutex     // guards all following fields
	processes []*lab.Process // in the order of their starts
	retired   bool
	err       error // of the last start
}

// startDaemon starts the program and a goroutine that supervises it. end must be
// called to end both.
func startDaemon(h *lab.Host, id string, c lab.Command) (*daemon, error) {
	d := &daemon{
		host:    h,
		command: c,
		mark:    fmt.Sprintf("%s=%d-%s-%s", markEnv, os.Getpid(), id, h.Name),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	d.command.Env = append(d.command.Env, d.mark)
	if err := d.start(); err != nil {
		return nil, err
	}
	go d.supervise()
	return d, nil
}

// start starts the program, unless the daemon is retired.
func (d *daemon) start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.retired {
		return nil
	}
	p, err := d.host.Start(d.command)
	if err == nil {
		d.processes = append(d.processes, p)
	}
	d.err = err
	return err
}

// supervise starts the program again whenever it ends.
func (d *daemon) supervise() {
	defer close(d.done)
	for {
		select {
		case <-d.current().Ended():
		case <-d.quit:
			return
		}
		select {
		case <-time.After(restartDelay):
		case <-d.quit:
			return
		}
		if d.start() != nil {
			return
		}
	}
}

// current returns the newest process.
func (d *daemon) current() *lab.Process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.processes[len(d.processes)-1]
}

// output returns the output of all its processes.
func (d *daemon) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b strings.Builder
	for _, p := range d.processes {
		b.WriteString(p.String())
	}
	return b.String()
}

// retire ends the supervision: the program does not start again.
func (d *daemon) retire() {
	d.mu.Lock()
	if !d.retired {
		d.retired = true
		close(d.quit)
	}
	d.mu.Unlock()
	<-d.done
}

// signalAll sends a signal to all processes that belong to the daemon.
func (d *daemon) signalAll(sig syscall.Signal) error {
	processes, err := marked(d.mark)
	for _, p := range processes {
		if failed := p.Signal(sig); !errors.Is(failed, os.ErrProcessDone) {
			err = errors.Join(err, failed)
		}
		err = errors.Join(err, p.Release())
	}
	return err
}

// end stops the daemon and kills all of its processes that are left.
func (d *daemon) end() error {
	d.retire()
	_ = d.signalAll(syscall.SIGCONT)
	_ = d.current().Signal(syscall.SIGTERM) // it may have ended already
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	_, stopped := d.current().Wait(ctx)
	err := errors.Join(stopped, d.signalAll(syscall.SIGKILL), d.current().Kill())
	return errors.Join(err, d.err)
}

// marked returns the processes with this variable in their environment.
func marked(mark string) ([]*os.Process, error) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil, err
	}
	var found []*os.Process
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || !inEnvironment(file, mark) {
			continue
		}
		// The handle stays with one process, even if the ID is given to another one.
		// The second look makes sure that it is the marked one.
		p, err := os.FindProcess(pid)
		if err != nil {
			return nil, err
		}
		if inEnvironment(file, mark) {
			found = append(found, p)
		}
	}
	return found, nil
}

// inEnvironment reports whether a process's environment has the variable. It is false
// for a process that has ended or belongs to another user.
func inEnvironment(file, variable string) bool {
	text, err := os.ReadFile(file)
	return err == nil && strings.Contains("\x00"+string(text), "\x00"+variable+"\x00")
}
