package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificates are the files for mutual TLS on the loopback interface.
type Certificates struct {
	CA     string // the certificate that signed both others
	Server Certificate
	Client Certificate
}

// Certificate is a certificate and its private key, as files.
type Certificate struct{ Cert, Key string }

// NewCertificates makes certificates that are valid for a day and writes them
// below dir.
func NewCertificates(dir string) (*Certificates, error) {
	c := &Certificates{
		CA:     filepath.Join(dir, "ca.pem"),
		Server: Certificate{filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")},
		Client: Certificate{filepath.Join(dir, "client.pem"), filepath.Join(dir, "client-key.pem")},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := template("ca")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	ca.IPAddresses = nil
	if err := sign(ca, ca, key, key, c.CA); err != nil {
		return nil, err
	}
	for _, leaf := range []Certificate{c.Server, c.Client} {
		if err := leaf.write(ca, key); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// write makes a new key and has the CA sign a certificate for it.
func (c Certificate) write(ca *x509.Certificate, caKey *ecdsa.PrivateKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(c.Key, "PRIVATE KEY", der); err != nil {
		return err
	}
	return sign(template(filepath.Base(c.Cert)), ca, key, caKey, c.Cert)
}

func template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
}

func sign(cert, ca *x509.Certificate, key, caKey *ecdsa.PrivateKey, path string) error {
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	return writePEM(path, "CERTIFICATE", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
