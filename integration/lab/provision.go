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

// Program is a real program that the lab runs beside consul-vip. Where it is not
// installed, it is built from a Go module of its own, integration/tools/NAME, so
// that this module does not depend on it.
type Program string

// The programs, each of the version that is built where none is installed, as
// its go.mod says.
const (
	Consul Program = "consul"
	Nomad  Program = "nomad"

	ConsulVersion = "1.22.3"
	NomadVersion  = "1.11.2"
)

// aliveEvery is how often something that takes long says that it's alive.
const aliveEvery = 10 * time.Second

// ErrNotFound is returned by Program.Find if this machine does not have the
// program yet.
var ErrNotFound = errors.New("not found")

// version is the one that Provide builds.
func (p Program) version() string {
	if p == Nomad {
		return NomadVersion
	}
	return ConsulVersion
}

// pkg is the package to build.
func (p Program) pkg() string { return "github.com/hashicorp/" + string(p) }

// tool is the directory of the module that requires it, below this one's.
func (p Program) tool() string { return filepath.Join("integration", "tools", string(p)) }

// Env is the environment variable that names a binary to use.
func (p Program) Env() string { return strings.ToUpper(string(p)) + "_BIN" }

// cached is where Provide keeps the binary it built.
func (p Program) cached() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "consul-vip", string(p)+"-"+p.version()), nil
}

// Find returns the path of the program's binary: the one that the environment
// variable Env names, or that is in PATH, or that Provide has built before.
func (p Program) Find() (string, error) {
	if path := os.Getenv(p.Env()); path != "" {
		path, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.Env(), err)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath(string(p)); err == nil {
		return filepath.Abs(path)
	}
	cached, err := p.cached()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(cached); err != nil {
		return "", fmt.Errorf("%s: %w in %s, PATH or the cache", p, ErrNotFound, p.Env())
	}
	return cached, nil
}

// Provide returns what Find does; if the program is not there yet, it builds it
// from its Go module, once, and says on log that and how long it takes.
func (p Program) Provide(ctx context.Context, log io.Writer) (string, error) {
	path, err := p.Find()
	if !errors.Is(err, ErrNotFound) {
		return path, err
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	cached, err := p.cached()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(cached), 0o755); err != nil {
		return "", err
	}
	fmt.Fprintf(log, "building %s %s from its Go module, about 6 minutes, once; cached in %s\n", p, p.version(), filepath.Dir(cached))
	defer stillAlive(log)()
	unlock, err := lockFile(ctx, cached+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(cached); err == nil {
		return cached, nil // somebody else has built it meanwhile
	}
	if err := build(ctx, filepath.Join(root, p.tool()), p.pkg(), cached); err != nil {
		return "", fmt.Errorf("building %s: %w", p, err)
	}
	return cached, nil
}

// BuildBinary builds consul-vip itself from the working tree into a file.
func BuildBinary(ctx context.Context, path string) error {
	root, err := ModuleRoot()
	if err != nil {
		return err
	}
	return build(ctx, root, "./cmd/consul-vip", path)
}

// build runs "go build" for a package as seen from dir. The file at path is
// never there half written.
func build(ctx context.Context, dir, pkg, path string) error {
	partial := fmt.Sprintf("%s.%d", path, os.Getpid())
	defer os.Remove(partial)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", partial, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return os.Rename(partial, path)
}

// ModuleRoot returns the directory of this repository's go.mod, as seen from
// the working directory.
func ModuleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/consul-vip/consul-vip").Output()
	if err != nil {
		return "", fmt.Errorf("this must be run from within the repository of consul-vip: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// lockFile waits until nobody else holds the lock of this file. The kernel
// gives the lock back when the process ends.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = Await(ctx, func() error {
		return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// stillAlive prints every ten seconds how long something has taken, until the
// returned function is called, which says how long it took in all.
func stillAlive(log io.Writer) (done func()) {
	start := time.Now()
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(aliveEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintf(log, "  … still building, %v so far\n", time.Since(start).Round(time.Second))
			case <-quit:
				fmt.Fprintf(log, "  … ended after %v\n", time.Since(start).Round(time.Second))
				return
			}
		}
	}()
	return func() { close(quit); <-ended }
}
