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
	// restartDelay is how long after its end a daemon is started again, as by a
	// scheduler.
	restartDelay = time.Second

	// stopTime is how long a daemon may take to stop at a repetition's end.
	stopTime = 10 * time.Second

	// markEnv is the variable by which every process that belongs to a daemon is
	// found, also one whose parent is gone.
	markEnv = "CONSUL_VIP_BENCH"
)

// daemon is a program under supervision on one host: when it ends it's started
// again, until retired. All methods are safe for concurrent use.
type daemon struct {
	host    *lab.Host
	command lab.Command
	mark    string // "KEY=value" in the environment of its processes

	quit chan struct{}
	done chan struct{}

	mu        sync.Mutex
	processes []*lab.Process // in the order of their starts
	retired   bool
	err       error // of a start
}

// startDaemon starts the program. It must be ended by end.
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

// output returns what all its processes wrote.
func (d *daemon) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b strings.Builder
	for _, p := range d.processes {
		b.WriteString(p.String())
	}
	return b.String()
}

// retire has the daemon not be started again.
func (d *daemon) retire() {
	d.mu.Lock()
	was := d.retired
	d.retired = true
	d.mu.Unlock()
	if !was {
		close(d.quit)
	}
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

// end stops the daemon and kills what is left of it then.
func (d *daemon) end() error {
	d.retire()
	_ = d.signalAll(syscall.SIGCONT)
	_ = d.current().Signal(syscall.SIGTERM) // it may have ended
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	_, stopped := d.current().Wait(ctx)
	err := errors.Join(stopped, d.signalAll(syscall.SIGKILL), d.current().Kill())
	return errors.Join(err, d.err)
}

// marked finds the processes with this variable in their environment.
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
		// Found first, looked at again afterwards: the number is this process's
		// for as long as the handle is there.
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

// inEnvironment says if a process's environment has the variable. One that has
// ended, or belongs to another user, has none.
func inEnvironment(file, variable string) bool {
	text, err := os.ReadFile(file)
	return err == nil && strings.Contains("\x00"+string(text), "\x00"+variable+"\x00")
}
