package lab

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Programs are the paths of what a run needs.
type Programs struct {
	Consul    string
	ConsulVIP string
}

// Prepare provides the programs, building consul-vip as bin/consul-vip where bin
// is empty, and then enters a namespace if it has to (see Enter). It has to be in
// this order: in there is no network, so nothing can be built any more. What it
// has found stays in the environment for the process that Enter may start.
func Prepare(ctx context.Context, bin string, log io.Writer) (p Programs, err error) {
	if p.Consul, err = Consul.Provide(ctx, log); err != nil {
		return p, err
	}
	if p.ConsulVIP, err = provideBinary(ctx, bin); err != nil {
		return p, err
	}
	if err := errors.Join(os.Setenv(Consul.Env(), p.Consul), os.Setenv("CONSUL_VIP_BIN", p.ConsulVIP)); err != nil {
		return p, err
	}
	return p, Enter()
}

// provideBinary returns the absolute path of the binary, which it builds if
// there's none.
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
	return bin, BuildBinary(ctx, bin)
}
