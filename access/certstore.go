package access

import (
	"fmt"

	"github.com/sealkeep/sealkeep/storage"
)

// A CertConfig is the configuration of a method cert.
type CertConfig struct {
	// DisableBinding lets the tokens of logins be renewed without the certificate.
	DisableBinding bool `json:"disable_binding"`
}

// ReadCertConfig returns the configuration of a method cert.
func ReadCertConfig(tx *storage.Tx, folder string) (c CertConfig, err error) {
	_, err = getRecord(tx, folder+"/config", methodKind, &c)
	return c, err
}

// WriteCertConfig writes the configuration of a method cert.
func WriteCertConfig(tx *storage.Tx, folder string, c CertConfig) error {
	return putRecord(tx, folder+"/config", methodKind, c, maxRoleLists)
}

// Folders of a method cert, below that of its mount.
const (
	CertFolder = "/certs"
	crlFolder  = "/crls"
)

// ReadCertRoles reads all that logins of a method cert need.
func ReadCertRoles(tx *storage.Tx, folder string) (*CertRoles, error) {
	names, err := tx.List(folder + CertFolder)
	if err != nil {
		return nil, err
	}
	var roles []*CertRole
	for _, name := range names {
		r := new(CertRole)
		if found, err := ReadMethodRole(tx, folder+CertFolder, name, r); err != nil || !found {
			return nil, fmt.Errorf("reading the role %q: %w", name, err)
		}
		if err := r.Check(); err != nil { // it was right when it was written
			return nil, fmt.Errorf("reading the role %q: %w: %v", name, storage.ErrFormat, err)
		}
		roles = append(roles, r)
	}
	names, err = tx.List(folder + crlFolder)
	if err != nil {
		return nil, err
	}
	var revoked [][]string
	for _, name := range names {
		serials, err := ReadCRL(tx, folder, name)
		if err != nil {
			return nil, err
		}
		revoked = append(revoked, serials)
	}
	return NewCertRoles(roles, revoked...), nil
}

// ReadCRL returns the serial numbers of a list of revoked certificates, nil when
// there is no list of that name.
func ReadCRL(tx *storage.Tx, folder, name string) (serials []string, err error) {
	path, err := methodPath(folder+crlFolder, name)
	if err != nil {
		return nil, err
	}
	found, err := getRecord(tx, path, methodKind, &serials)
	if found && serials == nil {
		serials = []string{}
	}
	return serials, err
}

// An EncodedCRL is a list of revoked certificates as it is stored.
type EncodedCRL []byte

// EncodeCRL encodes the serial numbers of revoked certificates for [WriteCRL],
// before the transaction: the list may be long. One that is too long is
// [ErrInvalid].
func EncodeCRL(serials []string) (EncodedCRL, error) {
	return encodeRecord(methodKind, serials, storage.MaxValue)
}

// WriteCRL writes a list of revoked certificates.
func WriteCRL(tx *storage.Tx, folder, name string, list EncodedCRL) error {
	path, err := methodPath(folder+crlFolder, name)
	if err != nil {
		return err
	}
	return tx.Put(path, list)
}

// DeleteCRL deletes a list of revoked certificates.
func DeleteCRL(tx *storage.Tx, folder, name string) error {
	return DeleteMethodRole(tx, folder+crlFolder, name)
}

// ListCRLs lists the names of the lists of revoked certificates.
func ListCRLs(tx *storage.Tx, folder string) ([]string, error) { return tx.List(folder + crlFolder) }
