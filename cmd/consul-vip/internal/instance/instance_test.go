package instance

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// twoNames are what an instance locks.
type twoNames struct{ Prefix, Service string }

// unused are names that no other test and no other program uses: the tests are in the
// network namespace of the machine.
func unused() twoNames { return twoNames{Prefix: rand.Text(), Service: rand.Text()} }

func namesOf(n twoNames) []string { return []string{"prefix=" + n.Prefix, "service=" + n.Service} }

func prefixName(c twoNames) string { return "consul-vip prefix=" + c.Prefix }

// lock locks an instance until the test ends.
func lock(t *testing.T, c twoNames) (*Instance, error) {
	t.Helper()
	i, err := Lock(t.Context(), hclog.NewNullLogger(), namesOf(c)...)
	if err == nil {
		t.Cleanup(i.Close)
	}
	return i, err
}

// nobody is the user of strangers.
const nobody = 65534

// asStranger runs do as another user.
func asStranger(t *testing.T, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a process of another user needs root")
	}
	done := make(chan unix.Errno)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0))
		if errno == 0 {
			do()
		}
		done <- errno
	}()
	errno := <-done
	if errno == unix.EINVAL {
		t.Skip("this user namespace has no other user")
	}
	require.Zero(t, errno)
}

// bindAt binds a socket to a name until the test ends.
func bindAt(t *testing.T, name string, kind int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if !assert.NoError(t, err) {
		return -1
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	assert.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + name}))
	return fd
}

func listenStranger(t *testing.T, name string, backlog int) {
	t.Helper()
	asStranger(t, func() { assert.NoError(t, unix.Listen(bindAt(t, name, unix.SOCK_STREAM), backlog)) })
}

func TestASecondInstanceIsRefused(t *testing.T) {
	c := unused()
	first, err := lock(t, c)
	require.NoError(t, err)
	for name, second := range map[string]twoNames{
		"prefix=" + c.Prefix:   {Prefix: c.Prefix, Service: rand.Text()},
		"service=" + c.Service: {Prefix: rand.Text(), Service: c.Service},
	} {
		_, err := lock(t, second)
		require.ErrorIs(t, err, ErrRunning)
		require.ErrorContains(t, err, fmt.Sprintf("process %d of user %d, with %s", os.Getpid(), os.Geteuid(), name))
	}
	_, err = lock(t, twoNames{Prefix: c.Prefix + "/more", Service: c.Service + "-2"})
	require.NoError(t, err, "other names that begin the same")

	first.Close()
	_, err = lock(t, c)
	require.NoError(t, err, "the first has ended")
}

// An instance of the version before listens at the name, and accepts no connection.
func TestInstancesOfTheVersionBefore(t *testing.T) {
	c := unused()
	old, err := net.Listen("unix", "@"+prefixName(c))
	require.NoError(t, err)
	_, err = lock(t, c)
	require.ErrorIs(t, err, ErrRunning)

	require.NoError(t, old.Close())
	_, err = lock(t, c)
	require.NoError(t, err)
	_, err = net.Listen("unix", "@"+prefixName(c))
	require.ErrorIs(t, err, unix.EADDRINUSE, "the old version sees the new one")
}

// requireOneInstance requires that one instance runs in spite of what strangers hold,
// and that a second one does not.
func requireOneInstance(t *testing.T, c twoNames) {
	t.Helper()
	first, err := lock(t, c)
	require.NoError(t, err)
	_, err = lock(t, c)
	require.ErrorIs(t, err, ErrRunning)
	first.Close()
	_, err = lock(t, c)
	require.NoError(t, err)
}

func TestAStrangerKeepsNoInstanceOut(t *testing.T) {
	for what, attack := range map[string]func(t *testing.T, name string){
		"listens": func(t *testing.T, name string) { listenStranger(t, name, 10) },
		"has a full queue": func(t *testing.T, name string) {
			listenStranger(t, name, 0)
			for range 10 {
				conn, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				require.NoError(t, err)
				t.Cleanup(func() { _ = unix.Close(conn) })
				if unix.Connect(conn, &unix.SockaddrUnix{Name: "@" + name}) != nil {
					return
				}
			}
			require.Fail(t, "the queue is not full")
		},
		"does not listen": func(t *testing.T, name string) { bindAt(t, name, unix.SOCK_STREAM) },
		"has a socket of another type": func(t *testing.T, name string) {
			bindAt(t, name, unix.SOCK_DGRAM)
			bindAt(t, name, unix.SOCK_SEQPACKET)
		},
		"has many names": func(t *testing.T, name string) {
			listenStranger(t, name, 10)
			for i := range 200 {
				listenStranger(t, fmt.Sprintf("%s %d", name, i), 10)
			}
		},
		"has a name that looks like a line of the list": func(t *testing.T, name string) {
			asStranger(t, func() { bindAt(t, "x\n0: 2 0 0 0001 01 1 @"+name[:40]+"\n", unix.SOCK_STREAM) })
		},
	} {
		t.Run(what, func(t *testing.T) {
			c := unused()
			attack(t, prefixName(c))
			requireOneInstance(t, c)
		})
	}
}

func TestAStrangerIsNamedInTheLog(t *testing.T) {
	c := unused()
	listenStranger(t, prefixName(c), 10)
	bindAt(t, prefixName(c)+" x", unix.SOCK_STREAM)
	var log bytes.Buffer
	i, err := Lock(t.Context(), hclog.New(&hclog.LoggerOptions{Output: &log}), namesOf(c)...)
	require.NoError(t, err)
	i.Close()
	assert.Contains(t, log.String(), fmt.Sprintf("sockets=2 uid=%d pid=%d", nobody, os.Getpid()))
}

// Root is not kept out by others, but others are by root.
func TestRootKeepsOthersOut(t *testing.T) {
	c := unused()
	_, err := lock(t, c)
	require.NoError(t, err)
	asStranger(t, func() {
		holder, err := holderOf(prefixName(c))
		assert.NoError(t, err)
		assert.True(t, ours(holder))
	})
}

// Of several that start at the same moment, never two run, whether a stranger has the
// name or not.
func TestInstancesThatStartTogether(t *testing.T) {
	for what, prepare := range map[string]func(t *testing.T, name string){
		"alone":          func(*testing.T, string) {},
		"and a stranger": func(t *testing.T, name string) { listenStranger(t, name, 10) },
	} {
		t.Run(what, func(t *testing.T) {
			c := unused()
			prepare(t, prefixName(c))
			var (
				mu      sync.Mutex
				running int
				all     sync.WaitGroup
			)
			for range 4 {
				all.Go(func() {
					i, err := Lock(t.Context(), hclog.NewNullLogger(), "prefix="+c.Prefix)
					if err != nil {
						assert.ErrorIs(t, err, ErrRunning)
						return
					}
					t.Cleanup(i.Close)
					mu.Lock()
					defer mu.Unlock()
					running++
				})
			}
			all.Wait()
			assert.LessOrEqual(t, running, 1)
		})
	}
}

func TestInstancesInAnotherNamespace(t *testing.T) {
	c := unused()
	_, err := lock(t, c)
	require.NoError(t, err)
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		i, err := Lock(t.Context(), hclog.NewNullLogger(), namesOf(c)...)
		if err == nil {
			i.Close()
		}
		result <- err
	}()
	if err = <-result; err == unix.EPERM {
		t.Skip("a network namespace needs root (CAP_SYS_ADMIN)")
	}
	require.NoError(t, err)
}

func TestNamesInTheList(t *testing.T) {
	const name = instanceName("consul-vip prefix=a")
	for line, want := range map[string]string{
		"Num       RefCount Protocol Flags    Type St Inode Path":                        "",
		"00000000: 00000002 00000000 00010000 0001 01 16163 @consul-vip prefix=a":        "consul-vip prefix=a",
		"00000000: 00000002 00000000 00000000 0001 01   163 @consul-vip prefix=a":        "consul-vip prefix=a",
		"00000000: 00000002 00000000 00010000 0001 01 16163 @consul-vip prefix=a XYZ":    "consul-vip prefix=a XYZ",
		"00000000: 00000002 00000000 00010000 0001 01 16163 @consul-vip prefix=ab":       "",
		"00000000: 00000002 00000000 00010000 0001 01 16163 @consul-vip prefix=a/b":      "",
		"00000000: 00000002 00000000 00010000 0002 01 16163 @consul-vip prefix=a":        "",
		"00000000: 00000002 00000000 00000000 0001 02     0 @consul-vip prefix=a":        "",
		"00000000: 00000002 00000000 00010000 0001 01 16163 consul-vip prefix=a":         "",
		"00000000: 00000002 00000000 00010000 0001 01 16163 /run/x @consul-vip prefix=a": "",
		"00000000: 00000002 00000000 00010000 0001 01 16163":                             "",
		"@consul-vip prefix=a": "",
	} {
		got, ok := name.in(line)
		assert.Equal(t, want, got, line)
		assert.Equal(t, want != "", ok, line)
	}
}
