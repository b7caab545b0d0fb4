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

const (
	// ConsulVersion is the version of Consul that is built where none is
	// installed, as integration/tools/consul/go.mod says.
	ConsulVersion = "1.22.3"

	consulModule = "github.com/hashicorp/consul"
	consulTool   = "integration/tools/consul" // directory of the module that requires it

	// aliveEvery is how often something that takes long says that it's alive.
	aliveEvery = 10 * time.Second
)

// ErrNoConsul is returned by FindConsul if there's no Consul on this machine yet.
var ErrNoConsul = errors.New("no Consul found in CONSUL_BIN, PATH or the cache")

// FindConsul returns the path of a Consul binary: the one that CONSUL_BIN
// names, or that is in PATH, or that ProvideConsul has built before.
func FindConsul() (string, error) {
	if path := os.Getenv("CONSUL_BIN"); path != "" {
		path, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("CONSUL_BIN: %w", err)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath("consul"); err == nil {
		return filepath.Abs(path)
	}
	cached, err := cachedConsul()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(cached); err != nil {
		return "", ErrNoConsul
	}
	return cached, nil
}

// ProvideConsul returns what FindConsul does; if there's no Consul yet, it
// builds one from its Go module, once, and says on log that and how long it takes.
func ProvideConsul(ctx context.Context, log io.Writer) (string, error) {
	path, err := FindConsul()
	if !errors.Is(err, ErrNoConsul) {
		return path, err
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	cached, err := cachedConsul()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(cached), 0o755); err != nil {
		return "", err
	}
	fmt.Fprintf(log, "building Consul %s from its Go module, about 6 minutes, once; cached in %s\n", ConsulVersion, filepath.Dir(cached))
	defer stillAlive(log)()
	unlock, err := lockFile(ctx, cached+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(cached); err == nil {
		return cached, nil // somebody else has built it meanwhile
	}
	if err := build(ctx, filepath.Join(root, consulTool), consulModule, cached); err != nil {
		return "", fmt.Errorf("building Consul: %w", err)
	}
	return cached, nil
}

// cachedConsul returns where ProvideConsul keeps the binary it built.
func cachedConsul() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "consul-vip", "consul-"+ConsulVersion), nil
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
