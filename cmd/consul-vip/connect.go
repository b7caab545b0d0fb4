package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/lease"
)

// client connects as the flags say, then the configuration (address and
// tokenFile, which may be empty), then the environment, through at most conns
// connections.
func (f *consulFlags) client(address, tokenFile string, conns int) (*api.Client, error) {
	client, _, err := f.connect(address, tokenFile, conns, hclog.NewNullLogger())
	return client, err
}

// connect is client for a long life: it reports to log, and a receive from
// tokenChanged means that requests now carry another ACL token.
func (f *consulFlags) connect(address, tokenFile string, conns int, log hclog.Logger) (client *api.Client, tokenChanged <-chan struct{}, err error) {
	c := f.config(address, tokenFile)
	c.Transport.MaxConnsPerHost = conns
	c.Transport.MaxIdleConnsPerHost = conns
	if c.Transport.TLSClientConfig, err = clientTLS(c.TLSConfig, log); err != nil {
		return nil, nil, fmt.Errorf("setting up TLS to Consul: %w", err)
	}
	// One connection for each request under way, as without TLS: what hangs must not
	// take others with it.
	c.Transport.ForceAttemptHTTP2 = false
	// api.NewClient would make a transport of its own for a unix socket.
	if path, ok := strings.CutPrefix(c.Address, "unix://"); ok {
		c.Address = "localhost"
		c.Transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	c.Transport.DialContext = warnOfRemote(c.Transport.DialContext, log)
	c.HttpClient = &http.Client{Transport: lease.Transport(c.Transport)}
	if c.TokenFile != "" {
		t, err := newTokenFile(c.TokenFile, c.HttpClient.Transport, log)
		if err != nil {
			return nil, nil, err
		}
		c.HttpClient.Transport, tokenChanged = t, t.changed
	}
	if client, err = api.NewClient(c); err != nil {
		return nil, nil, fmt.Errorf("setting up the Consul client: %w", err)
	}
	return client, tokenChanged, nil
}

// defaultAddress is the agent of this host. Its name, localhost, would take an
// /etc/hosts, which a container's image may not have.
const defaultAddress = "127.0.0.1:8500"

// config is what Consul's client is to be told.
func (f *consulFlags) config(address, tokenFile string) *api.Config {
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

// clientTLS is how to speak TLS. The client certificate is read anew for every
// connection, since short-lived ones are replaced while the process runs.
func clientTLS(c api.TLSConfig, log hclog.Logger) (*tls.Config, error) {
	conf, err := api.SetupTLSConfig(&c)
	if err != nil {
		return nil, err
	}
	var once sync.Once
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if c.CertFile == "" {
			once.Do(func() {
				log.Error("Consul asks for a client certificate and there is none: set -client-cert and -client-key, or CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY")
			})
			return new(tls.Certificate), nil
		}
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil { // it may be half written
			log.Warn("could not read the client certificate, using that of the start", "error", err)
			return &conf.Certificates[0], nil
		}
		return &cert, nil
	}
	return conf, nil
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// warnOfRemote warns, once, of a Consul agent on another host.
func warnOfRemote(dial dialer, log hclog.Logger) dialer {
	var once sync.Once
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil && !onThisHost(conn) {
			once.Do(func() {
				log.Warn("the Consul agent is on another host, and its failure would move this host's addresses while this host's own would go unnoticed: use the agent of this host", "address", conn.RemoteAddr().String())
			})
		}
		return conn, err
	}
}

// onThisHost reports whether conn has not left the host: who speaks to one of
// the host's own addresses speaks from it.
func onThisHost(conn net.Conn) bool {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return true // a unix socket
	}
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	return remote.IP.IsLoopback() || ok && remote.IP.Equal(local.IP)
}
