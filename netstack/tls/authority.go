package tls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrAuthority is wrapped by errors about the certificate authority's files.
var ErrAuthority = errors.New("certificate authority for TLS interception")

// Authority signs certificates that guests accept.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// PEM is the authority's certificate, without its key.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// LoadAuthority reads an authority that somebody else made. The first certificate in
// certFile counts. It fails with an error that wraps ErrAuthority.
func LoadAuthority(certFile, keyFile string) (*Authority, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	a, err := parseAuthority(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %s and %s: %w", ErrAuthority, certFile, keyFile, err)
	}
	return a, nil
}

func parseAuthority(cert, key []byte) (*Authority, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	switch c := pair.Leaf; {
	case !ok:
		return nil, errors.New("the key cannot sign")
	case !c.BasicConstraintsValid || !c.IsCA:
		return nil, errors.New("the certificate is not an authority's: it has no basic constraint CA")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the certificate is not for signing others")
	case time.Now().After(c.NotAfter):
		return nil, fmt.Errorf("the certificate expired on %s", c.NotAfter.Format(time.DateOnly))
	}
	return &Authority{pair.Leaf, signer}, nil
}

// generate makes an authority that does not expire in anyone's lifetime, as microsandbox
// does, and the PEM texts of its certificate and key.
func generate() (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	cert, err = selfSign(k)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// selfSign is the PEM text of an authority's certificate.
func selfSign(key crypto.Signer) ([]byte, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "microsandbox CA", Organization: []string{"microsandbox"}},
		NotBefore:             time.Date(1975, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(4096, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
