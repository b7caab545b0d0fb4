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
	h1 := newLab(t).Servers[0]
	out, err := h1.Run(t.Context(), Command{Args: []string{"cat", "/proc/net/dev"}})
	require.NoError(t, err)
	require.Contains(t, string(out), "eth0:")
	owns, err := h1.Owns(t.Context(), h1.Addr)
	require.NoError(t, err)
	require.True(t, owns)
}

func TestRunSaysWhatWentWrong(t *testing.T) {
	h1 := newLab(t).Servers[0]
	_, err := h1.Run(t.Context(), Command{Args: []string{"sh", "-c", "echo complaint >&2; exit 7"}})
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 7, exit.ExitCode())
	require.ErrorContains(t, err, "complaint")
}

func TestProcessEnds(t *testing.T) {
	h1 := newLab(t).Servers[0]
	p, err := h1.Start(Command{Args: []string{"sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done"}})
	require.NoError(t, err)
	eventually(t, func() error {
		if !strings.Contains(p.String(), "ready\n") {
			return errors.New("not ready")
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
	require.NoError(t, p.Kill(), "what has ended needs no killing")
}

func TestNothingOutlivesItsNamespace(t *testing.T) {
	h1 := newLab(t).Servers[0]
	p, err := h1.Start(Command{Args: []string{"sleep", "60"}})
	require.NoError(t, err)
	// The thread's end alone must do, as when the lab's process is killed.
	close(h1.ns.quit)
	<-p.Ended()
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.Equal(t, syscall.SIGKILL, status.Signal())
	<-h1.ns.done
	require.ErrorIs(t, h1.ns.do(func() error { return nil }), errClosed)
	h1.ns.quit = make(chan struct{}) // for Close
}

func TestEntries(t *testing.T) {
	o := new(Output)
	_, err := o.Write([]byte("panic: no JSON\n{\"@message\":\"state changed\",\"@timestamp\":\"2026-01-02T03:04:05.000006Z\",\"state\":\"active\"}\n"))
	require.NoError(t, err)
	entries := o.Entries()
	require.Len(t, entries, 1)
	require.Equal(t, "state changed", entries[0].Message())
	require.Equal(t, "active", entries[0].Get("state"))
	require.Equal(t, 6000, entries[0].Time().Nanosecond())
	require.Empty(t, entries[0].Get("vip"))
}

func TestConnections(t *testing.T) {
	h1 := newLab(t).Servers[0]
	listener, err := h1.Listen("tcp", "127.0.0.1:8500")
	require.NoError(t, err)
	defer listener.Close()
	// The test process itself lives elsewhere: look at it from a child on the host.
	p, err := h1.Start(Command{Args: []string{"bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8500 4<>/dev/tcp/127.0.0.1/8500; read -r"}, Stdin: neverEnding(t)})
	require.NoError(t, err)
	eventually(t, func() error {
		if n, err := p.Connections(ConsulPort); n != 2 {
			return errors.Join(errors.New("not connected"), err)
		}
		return nil
	})
}

// neverEnding returns an input that says nothing for as long as the test lasts.
func neverEnding(t *testing.T) *os.File {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return r
}
