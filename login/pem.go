package login

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// ParseCertificates reads certificates in PEM, at least one, and nothing else. The
// error continues a sentence that names the text.
func ParseCertificates(text string) (certs []*x509.Certificate, err error) {
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("has a %s in it: write certificates only", strings.ToLower(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("has a damaged certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 || strings.Contains(string(rest), "-----BEGIN") {
		return nil, errors.New("must be certificates in PEM")
	}
	return certs, nil
}
