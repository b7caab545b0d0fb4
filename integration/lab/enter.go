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

// insideEnv marks a process that Enter started, so that it never starts another.
const insideEnv = "CONSUL_VIP_LAB_INSIDE"

// Nested says if this process is root only inside a user namespace that Enter
// made, where no other user exists.
func Nested() bool { return os.Getenv(insideEnv) != "" }

// Permitted says if this process may build a lab as it is. The error is a
// [fs.ErrPermission] if it may not.
func Permitted() error {
	n, err := newNamespace()
	if err != nil {
		return err
	}
	return n.close()
}

// Enter makes sure that the process may build a lab: it returns nil if so. An
// ordinary user's process runs itself once more inside a user, a network and a
// mount namespace in which it's root, and doesn't return but exits as that
// process does. That process has no network but the lab's. The error says why
// there is no way.
func Enter() error {
	err := Permitted()
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if Nested() {
		return fmt.Errorf("not permitted, even inside a user namespace: %w", err)
	}
	code, err := again()
	if err != nil {
		return fmt.Errorf("neither root, nor are user namespaces for ordinary users allowed here: %w", err)
	}
	os.Exit(code)
	return nil
}

// again runs this very program with the same arguments inside new namespaces
// and returns its exit code.
func again() (int, error) {
	// The child gets its parent-death signal when this thread ends.
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
			// A terminal sends ^C to both. To get it twice does no harm.
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
