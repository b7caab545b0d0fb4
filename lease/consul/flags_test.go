package consul

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// self is an agent that tells its name, and keeps the tokens of the requests.
type self struct{ tokens []string }

func (s *self) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.tokens = append(s.tokens, r.Header.Get("X-Consul-Token"))
	_, _ = w.Write([]byte(`{"Config":{"NodeName":"h1"}}`))
}

// ask sends a request.
func ask(t *testing.T, client *Client) {
	t.Helper()
	_, err := client.Agent(t.Context())
	require.NoError(t, err)
}

// noEnvironment makes a test independent of the caller's settings for Consul.
func noEnvironment(t *testing.T) {
	for _, name := range []string{"ADDR", "TOKEN", "TOKEN_FILE", "AUTH", "SSL", "SSL_VERIFY"} {
		t.Setenv("CONSUL_HTTP_"+name, "")
	}
	for _, name := range []string{"CACERT", "CAPATH", "CLIENT_CERT", "CLIENT_KEY", "TLS_SERVER_NAME", "NAMESPACE", "PARTITION"} {
		t.Setenv("CONSUL_"+name, "")
	}
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestAddressPrecedence(t *testing.T) {
	for _, tt := range []struct{ env, config, flag, want string }{
		{"", "", "", "127.0.0.1:8500"}, // not by name, which needs an /etc/hosts
		{"environment:1", "", "", "environment:1"},
		{"environment:1", "config:2", "", "config:2"},
		{"environment:1", "config:2", "flag:3", "flag:3"},
	} {
		t.Setenv(api.HTTPAddrEnvName, tt.env)
		f := Flags{address: tt.flag}
		require.Equal(t, tt.want, f.config(tt.config, "").Address)
	}
}

func TestTokenFile(t *testing.T) {
	noEnvironment(t)
	agent := new(self)
	server := httptest.NewServer(agent)
	defer server.Close()
	path := writeFile(t, filepath.Join(t.TempDir(), "token"), "one\n")
	var log bytes.Buffer
	var f Flags
	client, err := f.Connect(server.URL, path, hclog.New(&hclog.LoggerOptions{Output: &log}))
	require.NoError(t, err)
	ask(t, client)
	assert.False(t, client.TokenChanged())

	writeFile(t, path, "two") // of the same length, and within the same tick of the clock
	ask(t, client)
	assert.True(t, client.TokenChanged())
	assert.False(t, client.TokenChanged(), "it has changed once")
	assert.Contains(t, log.String(), "has changed")

	log.Reset()
	writeFile(t, path, "\n")
	ask(t, client)
	require.NoError(t, os.Remove(path))
	ask(t, client)
	assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("[WARN]")), log.String())
	writeFile(t, path, "three")
	ask(t, client)

	assert.Equal(t, []string{"one", "two", "two", "two", "three"}, agent.tokens)
	assert.NotContains(t, log.String(), "three")
}

// A flag comes before the configuration, the configuration before the environment.
func TestTokenPrecedence(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return writeFile(t, filepath.Join(dir, name), name) }
	env, config, flag := file("env"), file("config"), file("flag")
	for name, test := range map[string]struct {
		env    map[string]string
		config string
		flags  Flags
		want   string
	}{
		"none":                       {nil, "", Flags{}, ""},
		"environment":                {map[string]string{"TOKEN": "t"}, "", Flags{}, "t"},
		"environment's file":         {map[string]string{"TOKEN": "t", "TOKEN_FILE": env}, "", Flags{}, "env"},
		"configuration's file":       {map[string]string{"TOKEN": "t"}, config, Flags{}, "config"},
		"of two files":               {map[string]string{"TOKEN_FILE": env}, config, Flags{}, "config"},
		"though the other is gone":   {map[string]string{"TOKEN_FILE": dir + "/gone"}, config, Flags{}, "config"},
		"flag's file":                {map[string]string{"TOKEN_FILE": env}, config, Flags{tokenFile: flag}, "flag"},
		"flag":                       {map[string]string{"TOKEN_FILE": env}, config, Flags{token: "x"}, "x"},
		"empty file, for the moment": {nil, writeFile(t, filepath.Join(dir, "empty"), ""), Flags{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			noEnvironment(t)
			for key, value := range test.env {
				t.Setenv("CONSUL_HTTP_"+key, value)
			}
			agent := new(self)
			server := httptest.NewServer(agent)
			defer server.Close()
			client, err := test.flags.Connect(server.URL, test.config, hclog.NewNullLogger())
			require.NoError(t, err)
			ask(t, client)
			assert.Equal(t, []string{test.want}, agent.tokens)
		})
	}
}

func TestTokenFileMissingAtStart(t *testing.T) {
	noEnvironment(t)
	missing := filepath.Join(t.TempDir(), "token")
	var f Flags
	_, err := f.Connect("", missing, hclog.NewNullLogger())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, missing)
}

// A unix socket is like any other address: requests carry the token of the file and
// share the connections.
func TestUnixSocket(t *testing.T) {
	noEnvironment(t)
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "consul.sock"))
	require.NoError(t, err)
	agent := new(self)
	var open, most int
	asked, answer := make(chan struct{}), make(chan struct{})
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
			<-answer
			agent.ServeHTTP(w, r)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				open++
				most = max(most, open)
			}
		},
	}
	defer server.Close()
	go func() { _ = server.Serve(listener) }()

	var f Flags
	client, err := f.connect("unix://"+dir+"/consul.sock", writeFile(t, filepath.Join(dir, "token"), "secret"), 1, hclog.NewNullLogger())
	require.NoError(t, err)
	ended := make(chan error)
	for range 2 {
		go func() { _, err := client.Agent(t.Context()); ended <- err }()
	}
	for range 2 {
		<-asked // one after the other
		answer <- struct{}{}
		require.NoError(t, <-ended)
	}
	assert.Equal(t, []string{"secret", "secret"}, agent.tokens)
	assert.Equal(t, 1, most)
}

func TestClientCertificateIsAskedFor(t *testing.T) {
	noEnvironment(t)
	server := httptest.NewUnstartedServer(new(self))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	ca := writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	var log bytes.Buffer
	f := Flags{caFile: ca}
	client, err := f.Connect(server.URL, "", hclog.New(&hclog.LoggerOptions{Output: &log}))
	require.NoError(t, err)
	for range 3 {
		_, err = client.Agent(t.Context())
		require.Error(t, err)
	}
	assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("CONSUL_CLIENT_CERT")), log.String())
}

// The next connection shows a certificate that was replaced, but not one that is
// half written.
func TestClientCertificateReplaced(t *testing.T) {
	noEnvironment(t)
	var shown []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = append(shown, r.TLS.PeerCertificates[0].Subject.CommonName)
		new(self).ServeHTTP(w, r)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	dir := t.TempDir()
	f := Flags{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), caFile: filepath.Join(dir, "ca.pem")}
	writeFile(t, f.caFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))

	writeCertificate(t, f.cert, f.key, "first")
	client, err := f.Connect(server.URL, "", hclog.NewNullLogger())
	require.NoError(t, err)
	ask(t, client)
	writeCertificate(t, f.cert, f.key, "second")
	server.CloseClientConnections()
	ask(t, client)
	writeFile(t, f.cert, "-----BEGIN")
	server.CloseClientConnections()
	ask(t, client)
	assert.Equal(t, []string{"first", "second", "first"}, shown)
}

func writeCertificate(t *testing.T, cert, key, name string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	writeFile(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	der, err = x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	writeFile(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func TestOnThisHost(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip)} }
	for name, test := range map[string]struct {
		local, remote net.Addr
		want          bool
	}{
		"loopback":         {tcp("127.0.0.1"), tcp("127.0.0.1"), true},
		"IPv6 loopback":    {tcp("::1"), tcp("::1"), true},
		"another loopback": {tcp("127.0.0.1"), tcp("127.0.0.53"), true},
		"own address":      {tcp("10.77.0.11"), tcp("10.77.0.11"), true},
		"another host":     {tcp("10.77.0.11"), tcp("10.77.0.12"), false},
		"unix socket":      {&net.UnixAddr{}, &net.UnixAddr{Name: "/run/consul.sock"}, true},
	} {
		var log bytes.Buffer
		dial := warnOfRemote(func(context.Context, string, string) (net.Conn, error) {
			return fakeConn{local: test.local, remote: test.remote}, nil
		}, hclog.New(&hclog.LoggerOptions{Output: &log}))
		for range 2 {
			_, err := dial(t.Context(), "tcp", "")
			require.NoError(t, err)
		}
		want := 1
		if test.want {
			want = 0
		}
		assert.Equal(t, want, bytes.Count(log.Bytes(), []byte("another host")), name)
	}
}

type fakeConn struct {
	net.Conn
	local, remote net.Addr
}

func (c fakeConn) LocalAddr() net.Addr  { return c.local }
func (c fakeConn) RemoteAddr() net.Addr { return c.remote }
