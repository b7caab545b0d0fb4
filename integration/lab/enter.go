package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

// insideEnv marks a process that Enter started, so that it does not start another.
const insideEnv = "INTEGRATION_LAB_INSIDE"

// Nested reports whether this process is root only inside a user namespace that Enter
// made. No other user exists there.
func Nested() bool { return os.Getenv(insideEnv) != "" }

// permitted returns nil if this process may build a lab. The error is a
// [fs.ErrPermission] if it may not.
func permitted() error {
	n, err := newNamespace()
	if err != nil {
		return err
	}
	return n.close()
}

// Enter returns nil if the process may build a lab. If it may not, because it is an
// ordinary user's, Enter starts the same program once more, inside a user, a network
// and a mount namespace in which it is root, and exits with that process's exit code.
// That process has no network but the lab's. The error says why neither is possible.
func Enter() error {
	err := permitted()
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if Nested() {
		return fmt.Errorf("not permitted, even inside a user namespace: %w", err)
	}
	code, err := again()
	if err != nil {
		return fmt.Errorf("this is not root, and ordinary users may not make user namespaces: %w", err)
	}
	os.Exit(code)
	return nil
}

// again runs this program with the same arguments inside new namespaces and returns
// its exit code.
func again() (int, error) {
	// The kernel sends the child's parent-death signal when this thread ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			// A terminal sends ^C to both processes; receiving it twice is harmless.
			_ = cmd.Process.Signal(sig)
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 0, err
			}
			if code := cmd.ProcessState.ExitCode(); code >= 0 {
				return code, nil
			}
			return 1, nil // killed by a signal
		}
	}
}
