package transit

import (
	"cmp"
	"crypto"
	"crypto/hmac"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"strconv"

	"github.com/sealkeep/sealkeep/api"
)

// hashes are the algorithms that keys hash with.
var hashes = map[string]crypto.Hash{
	"sha1": crypto.SHA1, "sha2-224": crypto.SHA224, "sha2-256": crypto.SHA256, "sha2-384": crypto.SHA384, "sha2-512": crypto.SHA512,
	"sha3-224": crypto.SHA3_224, "sha3-256": crypto.SHA3_256, "sha3-384": crypto.SHA3_384, "sha3-512": crypto.SHA3_512,
}

const defaultHash = "sha2-256"

// algorithmOf is what the path says, or the body by either name.
func algorithmOf(r *api.Request, algorithm, hashAlgorithm string) string {
	return cmp.Or(r.Param("algorithm"), hashAlgorithm, algorithm, defaultHash)
}

type hashInput struct {
	Input         *string `json:"input"`
	Algorithm     string  `json:"algorithm"`
	HashAlgorithm string  `json:"hash_algorithm"`
	Format        string  `json:"format"`
}

func hashOf(r *api.Request, in *hashInput) (api.Answer, error) {
	if in.Input == nil {
		return api.Answer{}, api.Invalid.Errorf("input missing")
	}
	input, err := base64.StdEncoding.DecodeString(*in.Input)
	if err != nil {
		return api.Answer{}, api.Invalid.Errorf("unable to decode input as base64: %v", err)
	}
	name := algorithmOf(r, in.Algorithm, in.HashAlgorithm)
	algorithm, ok := hashes[name]
	if !ok || algorithm == crypto.SHA1 {
		return api.Answer{}, api.Invalid.Errorf("unsupported algorithm %.100s", name)
	}
	h := algorithm.New()
	h.Write(input)
	return spell("sum", h.Sum(nil), cmp.Or(in.Format, "hex"), nil)
}

// spell answers with bytes in a format.
func spell(name string, b []byte, format string, warnings []string) (api.Answer, error) {
	var text string
	switch format {
	case "hex":
		text = hex.EncodeToString(b)
	case "base64":
		text = base64.StdEncoding.EncodeToString(b)
	default:
		return api.Answer{}, api.Invalid.Errorf("unsupported encoding format %.100q; must be \"hex\" or \"base64\"", format)
	}
	return api.Answer{Data: map[string]any{name: text}, Warnings: warnings}, nil
}

// randomMost is how many random bytes one request gets.
const randomMost = 128 << 10

type randomInput struct {
	Bytes  *int   `json:"bytes"` // nil: 32
	Format string `json:"format"`
	Source string `json:"source"`
}

// randomBytes answers random, random/SOURCE, random/BYTES and random/SOURCE/BYTES.
func randomBytes(r *api.Request, in *randomInput) (api.Answer, error) {
	n := 32
	if in.Bytes != nil {
		n = *in.Bytes
	}
	source, bytes := r.Param("source"), r.Param("bytes")
	isSource := source == "platform" || source == "seal" || source == "all"
	if bytes == "" && source != "" && !isSource {
		source, bytes = "", source
	}
	if bytes != "" {
		var err error
		if n, err = strconv.Atoi(bytes); err != nil {
			return api.Answer{}, api.Invalid.Errorf("error parsing url-set byte count: it is not a number")
		}
	}
	switch {
	case n < 1:
		return api.Answer{}, api.Invalid.Errorf("'bytes' cannot be less than 1")
	case n > randomMost:
		return api.Answer{}, api.Invalid.Errorf("'bytes' should be less than %d", randomMost)
	}
	var warnings []string
	switch source = cmp.Or(source, in.Source); source {
	case "", "platform", "all":
	case "seal":
		warnings = []string{"no seal/entropy augmentation available, using platform entropy source"}
	default:
		return api.Answer{}, api.Invalid.Errorf("unsupported entropy source %.100q; must be \"platform\" or \"seal\", or \"all\"", source)
	}
	return spell("random_bytes", random(n), cmp.Or(in.Format, "base64"), warnings)
}

type macing struct{}

var macFields = append(textFields(data, reference), versionField, batchField, api.Field{Name: "algorithm", Kind: api.TextField}, api.Field{Name: "hash_algorithm", Kind: api.TextField})

func (macing) fields() []api.Field { return macFields }

// macKey is what the HMACs of a version are computed with.
func (v *version) macKey() ([]byte, error) {
	if len(v.hmac) == 0 {
		return nil, api.Invalid.Errorf("no HMAC key exists for that key version")
	}
	return v.hmac, nil
}

func makeMAC(r *api.Request, in *in[macing]) (a api.Answer, err error) {
	e, name := of(r)
	items, err := in.each()
	if err != nil {
		return a, err
	}
	for i := range items {
		it := &items[i]
		if it.version == 0 {
			it.version = in.own.version
		}
		it.decodeInput("missing input for HMAC")
	}
	algorithm := algorithmOf(r, in.algorithm, in.hashAlgorithm)
	hash, known := hashes[algorithm]
	_, err = e.look(r, name, items, func(k *key, _ int, it *item) (n, to int, err error) {
		switch n := it.version; {
		case !known:
			return 0, 0, api.Invalid.Errorf("unsupported algorithm %.100q", algorithm)
		case n == 0:
			return k.Latest, 0, nil
		case n < 0:
			return 0, 0, api.Invalid.Errorf("key version does not exist (cannot be negative)")
		case n > k.Latest:
			return 0, 0, api.Invalid.Errorf("key version does not exist; latest key version is %d", k.Latest)
		case n < k.MinEncryption:
			return 0, 0, api.Invalid.Errorf("cannot generate HMAC: version is too old (disallowed by policy)")
		}
		return it.version, 0, nil
	})
	if err != nil {
		return a, err
	}
	return answer(r, &in.input, items, a, func(b []byte, it *item, scratch []byte) ([]byte, []byte, error) {
		secret, err := it.v.macKey()
		if err != nil {
			return b, scratch, err
		}
		h := hmac.New(hash.New, secret)
		h.Write(it.text[data])
		scratch = h.Sum(scratch[:0])
		b = append(append(b, `"hmac":"`...), it.v.prefix...)
		b = append(base64.StdEncoding.AppendEncode(b, scratch), `","key_version":`...)
		return strconv.AppendInt(b, int64(it.v.number), 10), scratch, nil
	})
}

// decodeInput leaves the input itself, in the place of its base64.
func (it *item) decodeInput(missing string) {
	if it.text[data] == nil {
		it.err = missing
		return
	}
	b, err := decodeBase64(it.text[data])
	if err != nil {
		it.err = "unable to decode input as base64: " + err.Error()
	}
	it.text[data] = b
}

// checkMAC verifies HMACs.
func checkMAC(r *api.Request, in *input, items []item) (a api.Answer, err error) {
	e, name := of(r)
	algorithm := algorithmOf(r, in.algorithm, in.hashAlgorithm)
	hash, known := hashes[algorithm]
	if !known {
		return a, api.Invalid.Errorf("invalid hash algorithm %.100q", algorithm)
	}
	in.decodeInputs(items)
	_, err = e.look(r, name, items, func(k *key, _ int, it *item) (n, to int, err error) {
		n, rest, err := splitVersion(it.text[mac], "invalid HMAC to verify: no prefix", "invalid HMAC")
		if err != nil {
			return 0, 0, err
		}
		sum, err := decodeBase64(rest)
		switch {
		case err != nil:
			return 0, 0, api.Invalid.Errorf("unable to decode verification HMAC as base64: %v", err)
		case n > k.Latest:
			return 0, 0, api.Invalid.Errorf("invalid HMAC: version is too new")
		case n < k.MinDecryption:
			return 0, 0, api.Invalid.Errorf("cannot verify HMAC: version is too old (disallowed by policy)")
		}
		it.text[mac] = sum
		return n, 0, nil
	})
	if err != nil {
		return a, err
	}
	return answer(r, in, items, a, func(b []byte, it *item, scratch []byte) ([]byte, []byte, error) {
		secret, err := it.v.macKey()
		if err != nil {
			return b, scratch, err
		}
		h := hmac.New(hash.New, secret)
		h.Write(it.text[data])
		scratch = h.Sum(scratch[:0])
		return appendValid(b, hmac.Equal(scratch, it.text[mac])), scratch, nil
	})
}
