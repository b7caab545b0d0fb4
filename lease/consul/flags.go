package consul

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// defaultAddress is the agent of this host. Its name, localhost, would need an
// /etc/hosts, which a container image may not have.
const defaultAddress = "127.0.0.1:8500"

// Flags are the command-line flags that Consul's own commands share. A flag that
// is not given leaves its value to the configuration and the environment
// (CONSUL_HTTP_ADDR …). The zero Flags connect as the environment says.
type Flags struct {
	address, token, tokenFile             string
	caFile, caPath, cert, key, serverName string
	datacenter, namespace, partition      string
}

// Register adds the flags to fs.
func (f *Flags) Register(fs *flag.FlagSet) {
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

// Connect returns a client that connects as the flags say, else as the
// configuration says (address and tokenFile, which may be empty), else as the
// environment says, through at most MaxConns connections. It sends nothing. What
// goes wrong later, and changes of the token file, are logged to log.
func (f *Flags) Connect(address, tokenFile string, log hclog.Logger) (*Client, error) {
	return f.connect(address, tokenFile, MaxConns, log)
}

// ConnectBeside is Connect with one connection more, for requests that may hang and must not
// take one from the others.
func (f *Flags) ConnectBeside(address, tokenFile string, log hclog.Logger) (*Client, error) {
	return f.connect(address, tokenFile, 1, log)
}

func (f *Flags) connect(address, tokenFile string, conns int, log hclog.Logger) (*Client, error) {
	c := f.config(address, tokenFile)
	c.Transport.MaxConnsPerHost = conns
	c.Transport.MaxIdleConnsPerHost = conns
	var err error
	if c.Transport.TLSClientConfig, err = clientTLS(c.TLSConfig, log); err != nil {
		return nil, fmt.Errorf("setting up TLS to Consul: %w", err)
	}
	// One connection for each request under way, as without TLS: a request that hangs
	// must not take others with it.
	c.Transport.ForceAttemptHTTP2 = false
	// api.NewClient would make a transport of its own for a unix socket.
	if path, ok := strings.CutPrefix(c.Address, "unix://"); ok {
		c.Address = "localhost"
		c.Transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	c.Transport.DialContext = warnOfRemote(c.Transport.DialContext, log)
	c.HttpClient = &http.Client{Transport: Transport(c.Transport)}
	var tokenChanged latest.Wake
	if c.TokenFile != "" {
		t, err := newTokenFile(c.TokenFile, c.HttpClient.Transport, log)
		if err != nil {
			return nil, err
		}
		c.HttpClient.Transport, tokenChanged = t, t.changed
	}
	client, err := api.NewClient(c)
	if err != nil {
		return nil, fmt.Errorf("setting up the Consul client: %w", err)
	}
	connected := New(client, tokenChanged)
	connected.datacenter = c.Datacenter
	connected.tenancy = tenancy{c.Namespace, c.Partition}
	connected.writer.tenancy = connected.tenancy
	return connected, nil
}

// config is the configuration of Consul's client.
func (f *Flags) config(address, tokenFile string) *api.Config {
	c := api.DefaultConfig() // from the environment, which comes last
	c.Address = defaultAddress
	override(&c.Address, os.Getenv(api.HTTPAddrEnvName), address, f.address)
	override(&c.TokenFile, tokenFile, f.tokenFile)
	if tokenFile != "" || f.tokenFile != "" {
		c.Token = ""
	}
	override(&c.Token, f.token)
	override(&c.TLSConfig.CAFile, f.caFile)
	override(&c.TLSConfig.CAPath, f.caPath)
	override(&c.TLSConfig.CertFile, f.cert)
	override(&c.TLSConfig.KeyFile, f.key)
	override(&c.TLSConfig.Address, f.serverName)
	override(&c.Datacenter, f.datacenter)
	override(&c.Namespace, f.namespace)
	override(&c.Partition, f.partition)
	if f.token != "" {
		c.TokenFile = ""
	}
	return c
}

// override leaves the last of values that is not empty in target.
func override(target *string, values ...string) {
	for _, v := range values {
		if v != "" {
			*target = v
		}
	}
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// warnOfRemote warns, once, of a Consul agent on another host.
func warnOfRemote(dial dialer, log hclog.Logger) dialer {
	var once sync.Once
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil && !onThisHost(conn) {
			once.Do(func() {
				log.Warn("the Consul agent is on another host: its failure moves this host's addresses, and a failure of this host goes unnoticed; use the agent of this host", "address", conn.RemoteAddr().String())
			})
		}
		return conn, err
	}
}

// onThisHost reports whether conn has not left the host: a connection to one of
// the host's own addresses comes from the same address.
func onThisHost(conn net.Conn) bool {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return true // a unix socket
	}
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	return remote.IP.IsLoopback() || ok && remote.IP.Equal(local.IP)
}
