package lab

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProcessRunsOnItsHost(t *testing.T) {
	h1 := newHosts(t).Servers[0]
	out, err := h1.Run(t.Context(), Command{Args: []string{"cat", "/proc/net/dev"}})
	require.NoError(t, err)
	require.Contains(t, string(out), "eth0:")
	owns, err := h1.Owns(t.Context(), h1.Addr)
	require.NoError(t, err)
	require.True(t, owns)
}

func TestRunReturnsStandardError(t *testing.T) {
	h1 := newHosts(t).Servers[0]
	_, err := h1.Run(t.Context(), Command{Args: []string{"sh", "-c", "echo complaint >&2; exit 7"}})
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 7, exit.ExitCode())
	require.ErrorContains(t, err, "complaint")
}

func TestProcessEnds(t *testing.T) {
	h1 := newHosts(t).Servers[0]
	p, err := h1.Start(Command{Args: []string{"sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done"}})
	require.NoError(t, err)
	eventually(t, func() error {
		if !strings.Contains(p.String(), "ready\n") {
			return errors.New("the process is not ready")
		}
		return nil
	})
	require.True(t, p.Running())
	require.NoError(t, p.Signal(syscall.SIGTERM))
	code, err := p.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, code)
	require.False(t, p.Running())
	require.Equal(t, "ready\ncaught\n", p.String())
	require.NoError(t, p.Kill(), "the process has already ended")
}

func TestFreezeStopsEveryThread(t *testing.T) {
	h := newHosts(t).Client
	p, err := h.Start(Command{Args: []string{"sh", "-c", "while :; do :; done"}})
	require.NoError(t, err)
	require.Error(t, p.frozen())
	require.NoError(t, p.Freeze(t.Context()))
	require.NoError(t, p.frozen())
	require.NoError(t, p.Signal(syscall.SIGCONT))
	eventually(t, func() error {
		if p.frozen() == nil {
			return errors.New("it has not gone on")
		}
		return nil
	})
	require.NoError(t, p.Kill())
	require.ErrorIs(t, p.Freeze(t.Context()), os.ErrProcessDone)
}

func TestNothingOutlivesItsNamespace(t *testing.T) {
	h1 := newHosts(t).Servers[0]
	p, err := h1.Start(Command{Args: []string{"sleep", "60"}})
	require.NoError(t, err)
	// The thread's end alone must kill it, as when the lab's process is killed.
	close(h1.ns.quit)
	<-p.Ended()
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.Equal(t, syscall.SIGKILL, status.Signal())
	<-h1.ns.done
	require.ErrorIs(t, h1.ns.do(func() error { return nil }), errClosed)
	h1.ns.quit = make(chan struct{}) // the end of the test closes it
}

func TestConnections(t *testing.T) {
	h1 := newHosts(t).Servers[0]
	listener, err := h1.Listen("tcp", "127.0.0.1:8500")
	require.NoError(t, err)
	defer listener.Close()
	// The process of the test is in another namespace, so a child on the host connects.
	p, err := h1.Start(Command{Args: []string{"bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8500 4<>/dev/tcp/127.0.0.1/8500; read -r"}, Stdin: neverEnding(t)})
	require.NoError(t, err)
	eventually(t, func() error {
		if n, err := p.Connections(ConsulPort); n != 2 {
			return errors.Join(errors.New("not connected"), err)
		}
		return nil
	})
}

// neverEnding returns an input that is empty and stays open until the test ends.
func neverEnding(t *testing.T) *os.File {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return r
}
