package consul

import (
	"crypto/tls"
	"sync"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

// clientTLS is the TLS configuration of a client. The client certificate is read
// again for every connection, because short-lived ones are replaced while the
// process runs.
func clientTLS(c api.TLSConfig, log hclog.Logger) (*tls.Config, error) {
	conf, err := api.SetupTLSConfig(&c)
	if err != nil {
		return nil, err
	}
	var once sync.Once
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if c.CertFile == "" {
			once.Do(func() {
				log.Error("Consul requires a client certificate and none is configured: set -client-cert and -client-key, or CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY")
			})
			return new(tls.Certificate), nil
		}
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil { // it may be half written
			log.Warn("could not read the client certificate, using the one read at start", "error", err)
			return &conf.Certificates[0], nil
		}
		return &cert, nil
	}
	return conf, nil
}
