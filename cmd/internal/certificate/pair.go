package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config/keyfile"
)

// maxFile limits a file with a certificate or a key, in bytes.
const maxFile = 1 << 20

// Pair is a certificate with its private key. It is immutable.
type Pair struct {
	certificate *tls.Certificate
	files       [2]version // that it was read from
}

// version tells whether a file has been replaced or written. The zero value is that of no file.
type version struct {
	modified time.Time
	size     int64
	inode    uint64
}

// Leaf returns the endpoint's own certificate.
func (p *Pair) Leaf() *x509.Certificate { return p.certificate.Leaf }

// Chain returns the certificates that the endpoint sends after its own.
func (p *Pair) Chain() (chain []*x509.Certificate) {
	for _, raw := range p.certificate.Certificate[1:] {
		if c, err := x509.ParseCertificate(raw); err == nil {
			chain = append(chain, c)
		}
	}
	return chain
}

// Problem returns what is wrong with the pair's time of validity; "" = nothing. A certificate that
// is to be renewed is renewed when a third of its time is left, by certbot, step and others, so that
// a sixth means that this has failed.
func (p *Pair) Problem(now time.Time) string {
	leaf := p.Leaf()
	const minute = "2006-01-02 15:04 MST"
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		return "the certificate has expired at " + leaf.NotAfter.UTC().Format(minute) + ": clients reject it; renew it, then run llmsup reload"
	case now.Before(leaf.NotBefore):
		return "the certificate is valid only from " + leaf.NotBefore.UTC().Format(minute) + ": clients reject it; check the clock of this machine"
	case left < leaf.NotAfter.Sub(leaf.NotBefore)/6:
		return "the certificate expires at " + leaf.NotAfter.UTC().Format(minute) + "; renew it, then run llmsup reload"
	}
	return ""
}

// Read reads the certificate and its key. key is that below tls which an error is about. No error
// contains a part of the private key.
func (s Settings) Read() (p *Pair, key string, err error) {
	p = &Pair{files: s.versions()} // before the files: one that is written meanwhile is read again
	cert, err := readPEM(s.CertFile)
	if err != nil {
		return nil, "cert_file", err
	}
	private, err := readPEM(s.KeyFile)
	if err != nil {
		return nil, "key_file", err
	}
	switch certTypes, keyTypes := blockTypes(cert), blockTypes(private); {
	case !strings.Contains(certTypes, " CERTIFICATE;") && strings.Contains(certTypes, "PRIVATE KEY;"):
		return nil, "cert_file", fmt.Errorf("%s has a private key and no certificate; cert_file and key_file may be exchanged", s.CertFile)
	case !strings.Contains(certTypes, " CERTIFICATE;"):
		return nil, "cert_file", fmt.Errorf("%s has no certificate in PEM format (-----BEGIN CERTIFICATE-----)", s.CertFile)
	case strings.Contains(keyTypes, "ENCRYPTED PRIVATE KEY;") || strings.Contains(string(private), "Proc-Type: 4,ENCRYPTED"):
		return nil, "key_file", fmt.Errorf("the key in %s has a passphrase, which llmsup cannot ask for; write one without it: openssl pkey -in %s -out NEW", s.KeyFile, s.KeyFile)
	case !strings.Contains(keyTypes, "PRIVATE KEY;"):
		return nil, "key_file", fmt.Errorf("%s has no private key in PEM format (-----BEGIN PRIVATE KEY-----)", s.KeyFile)
	}
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		return nil, keyOf(err), s.explain(err)
	}
	p.certificate = &pair
	return p, "", nil
}

// readPEM reads a file.
func readPEM(file string) ([]byte, error) {
	path, err := keyfile.Path(file)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxFile) { // opening a named pipe would wait
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", file, maxFile)
	}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s", file)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the user %d, which llmsup runs as, is not permitted to read %s; let its group read the file and enter the folders above it", os.Geteuid(), file)
	case err != nil:
		return nil, fmt.Errorf("read the file: %w", err)
	}
	return raw, nil
}

// blockTypes returns the types of the blocks of a file in PEM format, each after a space and before
// a semicolon.
func blockTypes(raw []byte) string {
	var types strings.Builder
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		types.WriteString(" " + block.Type + ";")
	}
	return types.String()
}

// The library's errors have no types.
const (
	otherKey  = "private key does not match public key"
	otherKind = "private key type does not match public key type"
)

// keyOf returns the key below tls that an error of tls.X509KeyPair is about.
func keyOf(err error) string {
	if text := err.Error(); strings.Contains(text, "x509: ") && !strings.Contains(text, "private key") {
		return "cert_file"
	}
	return "key_file"
}

// explain says what to do about an error of tls.X509KeyPair.
func (s Settings) explain(err error) error {
	if text := err.Error(); strings.Contains(text, otherKey) || strings.Contains(text, otherKind) {
		return fmt.Errorf("the key in %s is not that of the first certificate in %s; the endpoint's own certificate comes first, those that signed it after it", s.KeyFile, s.CertFile)
	}
	return fmt.Errorf("%s and %s are damaged, or of a kind that llmsup does not know: %w", s.CertFile, s.KeyFile, err)
}

// versions returns the versions of both files.
func (s Settings) versions() (versions [2]version) {
	for i, file := range []string{s.CertFile, s.KeyFile} {
		path, err := keyfile.Path(file)
		if err != nil {
			continue
		}
		if info, err := os.Stat(path); err == nil {
			versions[i] = version{info.ModTime(), info.Size(), inodeOf(info)}
		}
	}
	return versions
}
