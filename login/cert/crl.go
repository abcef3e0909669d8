package cert

import (
	"crypto/x509"
	"encoding/pem"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

// ParseCRL returns the serial numbers of a list of revoked certificates, in PEM or DER.
// Whoever writes the list answers for whose it is and for how long it counts.
func ParseCRL(text []byte) (serials []string, err error) {
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	list, err := x509.ParseRevocationList(text)
	if err != nil {
		return nil, api.Invalid.Errorf("failed to parse CRL: %v", err)
	}
	for _, e := range list.RevokedCertificateEntries {
		serials = append(serials, e.SerialNumber.String())
	}
	return serials, nil
}

const (
	crlFolder = "crls"
	crlBody   = 2 * storage.MaxValue // bytes of a request that writes a list, which is longer than what is stored
)

func crlPath(r *api.Request) (string, error) {
	return login.Path(r.Prefix()+"/"+crlFolder, "role", r.Param("name"))
}

// readSerials reads a list of revoked certificates; found says whether it is there.
func readSerials(tx *storage.Tx, path string) (serials []string, found bool, err error) {
	found, err = login.ReadRecord(tx, path, recordKind, &serials)
	return serials, found, err
}

// readCRLs reads all lists of a mount.
func readCRLs(tx *storage.Tx, folder string) (lists [][]string, err error) {
	folder += "/" + crlFolder
	names, err := tx.List(folder)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		serials, _, err := readSerials(tx, folder+"/"+name)
		if err != nil {
			return nil, err
		}
		lists = append(lists, serials)
	}
	return lists, nil
}

func getCRL(r *api.Request, tx *storage.Tx, _ *api.None) (a api.Answer, err error) {
	path, err := crlPath(r)
	if err != nil {
		return a, err
	}
	serials, found, err := readSerials(tx, path)
	if err == nil && !found {
		err = api.Invalid.Errorf("no such CRL %s", r.Param("name"))
	}
	if err != nil {
		return a, err
	}
	return api.Answer{Data: shown(serials)}, nil
}

// shown is what is shown of a list.
func shown(serials []string) map[string]any {
	set := make(map[string]struct{}, len(serials))
	for _, serial := range serials {
		set[serial] = struct{}{}
	}
	return map[string]any{"serials": set}
}

type crlInput struct {
	CRL string `json:"crl"`
	URL string `json:"url"`
}

// putCRL writes a list, which it reads and encodes before the transaction, since it may
// be long.
func putCRL(r *api.Request, in *crlInput) (a api.Answer, err error) {
	switch {
	case in.URL != "":
		return a, api.Invalid.Errorf("lists are not fetched: write the list itself as crl, again whenever there is a newer one")
	case in.CRL == "":
		return a, api.Invalid.Errorf("'crl' must be provided")
	}
	serials, err := ParseCRL([]byte(in.CRL))
	if err != nil {
		return a, err
	}
	value, err := login.EncodeRecord(recordKind, serials, storage.MaxValue)
	if err != nil {
		return a, err
	}
	path, err := crlPath(r)
	if err != nil {
		return a, err
	}
	return a, r.Update(func(tx *storage.Tx) error { return tx.Put(path, value) })
}

func removeCRL(r *api.Request, tx *storage.Tx, _ *api.None) (a api.Answer, err error) {
	path, err := crlPath(r)
	if err != nil {
		return a, err
	}
	return a, tx.Delete(path)
}
