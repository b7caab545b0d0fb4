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

// Program is a program that the lab runs beside consul-vip. If it is not installed,
// Provide builds it from the Go module integration/tools/NAME; this module does not
// depend on it.
type Program string

// The programs, and the versions that Provide builds, as in their go.mod files.
const (
	Consul Program = "consul"
	Nomad  Program = "nomad"

	ConsulVersion = "1.22.3"
	NomadVersion  = "1.11.2"
)

// progressInterval is the time between two messages that a build still runs.
const progressInterval = 10 * time.Second

// ErrNotFound is the error of Program.Find if this machine does not have the program
// yet.
var ErrNotFound = errors.New("not found")

// version returns the version that Provide builds.
func (p Program) version() string {
	if p == Nomad {
		return NomadVersion
	}
	return ConsulVersion
}

// pkg returns the package to build.
func (p Program) pkg() string { return "github.com/hashicorp/" + string(p) }

// tool returns the directory of the Go module that requires the program, below this
// module's.
func (p Program) tool() string { return filepath.Join("integration", "tools", string(p)) }

// Env returns the environment variable that names the binary to use.
func (p Program) Env() string { return strings.ToUpper(string(p)) + "_BIN" }

// cached returns the path at which Provide keeps the binary that it built.
func (p Program) cached() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "consul-vip", string(p)+"-"+p.version()), nil
}

// Find returns the path of the program's binary. It looks into the environment variable
// that Env names, then into PATH, then for a binary that Provide has built.
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

// Provide returns the path that Find returns. If there is no binary yet, it builds one
// from the program's Go module, and writes the progress to log.
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
	defer reportProgress(log)()
	unlock, err := lockFile(ctx, cached+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(cached); err == nil {
		return cached, nil // another process has built it in the meantime
	}
	if err := build(ctx, filepath.Join(root, p.tool()), p.pkg(), cached); err != nil {
		return "", fmt.Errorf("building %s: %w", p, err)
	}
	return cached, nil
}

// buildBinary builds consul-vip from the working tree into a file.
func buildBinary(ctx context.Context, path string) error {
	root, err := ModuleRoot()
	if err != nil {
		return err
	}
	return build(ctx, root, "./cmd/consul-vip", path)
}

// build runs "go build" for a package in dir. The file at path is complete at any
// time.
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

// ModuleRoot returns the directory of this repository's go.mod. The working directory
// must be in the repository.
func ModuleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/consul-vip/consul-vip").Output()
	if err != nil {
		return "", fmt.Errorf("the working directory is not in the repository of consul-vip: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// lockFile waits until no other process holds the lock of this file, and takes it. The
// kernel releases the lock when the process ends.
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

// reportProgress prints at an interval how long something has taken. The returned
// function ends that and prints how long it took in all.
func reportProgress(log io.Writer) (done func()) {
	start := time.Now()
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressInterval)
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
