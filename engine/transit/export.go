package transit

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

type exportInput struct {
	Format string `json:"format"` // "": that of the type; raw, der or pem
}

// exports are the types of an export, and what a key must be able to do for them.
var exports = map[string]func(*kind) (can bool, otherwise string){
	"encryption-key": func(k *kind) (bool, string) { return k.encrypts(), "encryption not supported for the key" },
	"signing-key":    func(k *kind) (bool, string) { return k.asymmetric(), "signing not supported for the key" },
	"hmac-key":       func(*kind) (bool, string) { return true, "" },
	"public-key": func(k *kind) (bool, string) {
		return k.asymmetric(), "unknown key type " + k.name + " for export type public-key"
	},
	"certificate-chain": func(k *kind) (bool, string) {
		return k.asymmetric(), "certificate chain not supported for keys that do not support signing"
	},
}

func export(r *api.Request, tx *storage.Tx, in *exportInput) (api.Answer, error) {
	what := r.Param("type")
	check, known := exports[what]
	switch {
	case !known:
		return api.Answer{}, api.Invalid.Errorf("invalid export type: %.100s", what)
	case in.Format != "" && in.Format != "raw" && in.Format != "der" && in.Format != "pem":
		return api.Answer{}, api.Invalid.Errorf("invalid format: %.100s", in.Format)
	}
	e, name := of(r)
	k, err := e.load(tx, name)
	switch {
	case err != nil:
		return api.Answer{}, err
	case k == nil:
		return api.Answer{}, api.ErrAbsent
	case !k.Exportable && what != "public-key" && what != "certificate-chain":
		return api.Answer{}, api.Invalid.Errorf("private key material is not exportable")
	case k.SoftDeleted:
		return api.Answer{}, errSoftDeleted
	}
	if can, otherwise := check(k.kind); !can {
		return api.Answer{}, api.Invalid.Errorf("%s", otherwise)
	}
	first, last, err := k.exported(r.Param("version"))
	if err != nil {
		return api.Answer{}, err
	}
	keys := make(map[string]string)
	for n := first; n <= last; n++ {
		v, err := k.version(tx, n)
		if err != nil {
			return api.Answer{}, err
		}
		if keys[strconv.Itoa(n)], err = k.export(v, what, in.Format); err != nil {
			return api.Answer{}, err
		}
	}
	return api.Answer{Data: map[string]any{"name": name, "type": k.Type, "keys": keys}}, nil
}

// exported are the versions that a path means: all, or one, or the latest.
func (k *key) exported(version string) (first, last int, err error) {
	switch version {
	case "":
		return k.MinDecryption, k.Latest, nil
	case "latest":
		return k.Latest, k.Latest, nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(version, "v"))
	switch {
	case err != nil:
		return 0, 0, api.Invalid.Errorf("invalid key version")
	case n < k.MinDecryption:
		return 0, 0, api.Invalid.Errorf("version for export is below minimum decryption version")
	case n > k.Latest:
		return 0, 0, api.Invalid.Errorf("version does not exist or cannot be found")
	}
	return n, n, nil
}

// export is one version of a key, in a format that it has. Where only the public key
// is there, the private key is "".
func (k *key) export(v *version, what, format string) (string, error) {
	raw := format == "" || format == "raw"
	switch {
	case what == "certificate-chain":
		if len(v.chain) == 0 {
			return "", api.Invalid.Errorf("selected key version does not have a certificate chain imported")
		}
		return showChain(v.chain), nil
	case what == "hmac-key" && raw:
		return base64.StdEncoding.EncodeToString(v.hmac), nil
	case what == "encryption-key" && k.symmetric() && raw, k.ed25519 && what == "signing-key" && raw:
		return base64.StdEncoding.EncodeToString(v.secret), nil
	case what == "hmac-key" || k.symmetric():
		return "", api.Invalid.Errorf("unknown format for HMAC key; supported values are `` or `raw`")
	case k.Derived && what == "public-key":
		return "", api.Invalid.Errorf("a derived key has a public key for each context: read the key with one")
	case k.ed25519 && what == "public-key" && raw:
		return base64.StdEncoding.EncodeToString(v.public.(ed25519.PublicKey)), nil
	case format == "raw" && k.curve != nil:
		return "", api.Invalid.Errorf("unknown key format for ec key; supported values are ``, `der`, or `pem`")
	case format == "raw":
		return "", api.Invalid.Errorf("unknown key format for rsa key; supported values are ``, `der`, or `pem`")
	}
	block := &pem.Block{Type: "PUBLIC KEY", Bytes: v.der}
	if what != "public-key" {
		private := any(v.private)
		if k.Derived {
			private = ed25519.PrivateKey(v.secret)
		}
		if private == nil || v.private == nil && !k.Derived {
			return "", nil
		}
		var err error
		if block, err = encodePrivate(private, format); err != nil {
			return "", err
		}
	}
	if format == "der" {
		return base64.StdEncoding.EncodeToString(block.Bytes), nil
	}
	text := string(pem.EncodeToMemory(block))
	if k.bits == 0 { // as Vault has it
		text = strings.TrimSpace(text)
	}
	return text, nil
}

// encodePrivate is a private key in PKCS #8, or in the older form of its type.
func encodePrivate(private any, format string) (block *pem.Block, err error) {
	block = new(pem.Block)
	switch key := private.(type) {
	case *rsa.PrivateKey:
		if format == "" {
			block.Type, block.Bytes = "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)
			return block, nil
		}
	case *ecdsa.PrivateKey:
		if format == "" {
			block.Type = "EC PRIVATE KEY"
			block.Bytes, err = x509.MarshalECPrivateKey(key)
			return block, err
		}
	}
	block.Type = "PRIVATE KEY"
	block.Bytes, err = x509.MarshalPKCS8PrivateKey(private)
	return block, err
}
