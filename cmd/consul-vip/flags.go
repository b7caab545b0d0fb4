package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// flagSet returns an empty set of flags for a command. The flag package accepts
// one dash or two.
func flagSet(name string, stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("consul-vip "+name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "For usage see consul-vip %s --help\n", name)
	}
	return fs
}

// parse parses args. It returns mistakes as a usageError, which the flag package
// has already printed.
func parse(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return usageError(err.Error())
}

// paths are the values of a flag that may be given several times.
type paths []string

func (p *paths) String() string     { return strings.Join(*p, " ") }
func (p *paths) Set(s string) error { *p = append(*p, s); return nil }

// consulFlags are the flags that Consul's own commands have in common. What is
// not given comes from the environment (CONSUL_HTTP_ADDR …).
type consulFlags struct {
	address, token, tokenFile             string
	caFile, caPath, cert, key, serverName string
	datacenter, namespace, partition      string
}

func (f *consulFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.address, "http-addr", "", "`address` of the Consul agent, host:port or URL")
	fs.StringVar(&f.token, "token", "", "ACL `token`")
	fs.StringVar(&f.tokenFile, "token-file", "", "`file` with the ACL token")
	fs.StringVar(&f.caFile, "ca-file", "", "`file` with the CA certificate of Consul")
	fs.StringVar(&f.caPath, "ca-path", "", "`directory` with CA certificates of Consul")
	fs.StringVar(&f.cert, "client-cert", "", "`file` with the client certificate")
	fs.StringVar(&f.key, "client-key", "", "`file` with the client certificate's key")
	fs.StringVar(&f.serverName, "tls-server-name", "", "server `name` to expect in Consul's certificate")
	fs.StringVar(&f.datacenter, "datacenter", "", "`name` of the datacenter")
	fs.StringVar(&f.namespace, "namespace", "", "`name` of the namespace (Consul Enterprise)")
	fs.StringVar(&f.partition, "partition", "", "`name` of the admin partition (Consul Enterprise)")
}
