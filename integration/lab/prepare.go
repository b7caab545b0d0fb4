package lab

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// binaryEnv is the environment variable that names the consul-vip binary to run.
const binaryEnv = "INTEGRATION_BIN"

// wantedEnv is the environment variable by which tests run in a lab.
const wantedEnv = "INTEGRATION"

// Programs are the paths of the binaries that run on the hosts.
type Programs struct {
	Consul    string
	ConsulVIP string
}

// Binary returns the consul-vip binary that the environment names, or "".
func Binary() string { return os.Getenv(binaryEnv) }

// Wanted returns nil if tests that need a lab are to run. Otherwise it returns an
// error that says how to run them.
func Wanted() error {
	if os.Getenv(wantedEnv) == "" {
		return errors.New("needs hosts in network namespaces: set " + wantedEnv + "=1, or use \"make test\"")
	}
	return nil
}

// Prepare provides Consul, other programs that are named, and consul-vip, which it
// builds as bin/consul-vip if bin is empty. Then it enters a namespace if it has to;
// see [Enter]. The order matters: nothing can be built without a network. A process
// that Enter starts finds all paths in its environment.
func Prepare(ctx context.Context, bin string, log io.Writer, others ...Program) (p Programs, err error) {
	if p.Consul, err = Consul.export(ctx, log); err != nil {
		return p, err
	}
	for _, other := range others {
		if _, err := other.export(ctx, log); err != nil {
			return p, err
		}
	}
	if p.ConsulVIP, err = provideBinary(ctx, bin); err != nil {
		return p, err
	}
	if err := os.Setenv(binaryEnv, p.ConsulVIP); err != nil {
		return p, err
	}
	return p, Enter()
}

// export provides a program and names it in the environment.
func (p Program) export(ctx context.Context, log io.Writer) (path string, err error) {
	if path, err = p.Provide(ctx, log); err != nil {
		return "", err
	}
	return path, os.Setenv(p.Env(), path)
}

// provideBinary returns the absolute path of the consul-vip binary. If bin is
// empty, it builds one.
func provideBinary(ctx context.Context, bin string) (string, error) {
	if bin != "" {
		return filepath.Abs(bin)
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	bin = filepath.Join(root, "bin", "consul-vip")
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return "", err
	}
	return bin, buildBinary(ctx, bin)
}
