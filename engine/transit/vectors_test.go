package transit

import (
	"crypto/ed25519"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Published ciphertexts decrypt, and are what convergent encryption would make of
// their nonces: NIST's GCM examples (test cases 4 and 16 with their associated data),
// RFC 8439 section 2.8.2 and the XChaCha draft's appendix A.3.1.
func TestVectors(t *testing.T) {
	const (
		gcmPlain  = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
		gcmNonce  = "cafebabefacedbaddecaf888"
		gcmData   = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
		sunscreen = "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a204966204920636f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73637265656e20776f756c642062652069742e"
	)
	for _, c := range []struct{ kind, key, nonce, data, plain, sealed string }{
		{"aes128-gcm96", "feffe9928665731c6d6a8f9467308308", gcmNonce, gcmData, gcmPlain,
			"42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091" + "5bc94fbc3221a5db94fae95ae7121a47"},
		{"aes256-gcm96", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", gcmNonce, gcmData, gcmPlain,
			"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" + "76fc6ece0f4e1768cddf8853bb2d551b"},
		{"chacha20-poly1305", "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7", sunscreen,
			"d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116" + "1ae10b594f09e26a7e902ecbd0600691"},
		{"xchacha20-poly1305", "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "404142434445464748494a4b4c4d4e4f5051525354555657", "50515253c0c1c2c3c4c5c6c7", sunscreen,
			"bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e" + "c0875924c1c7987947deafd8780acf49"},
	} {
		kind := kindOf(c.kind)
		k := &key{policy: policy{Type: c.kind}, kind: kind}
		v, err := k.parse(1, &record{Secret: unhex(t, c.key)})
		if err != nil {
			t.Fatal(err)
		}
		nonce, data, plain, sealed := unhex(t, c.nonce), unhex(t, c.data), unhex(t, c.plain), unhex(t, c.sealed)
		if got, err := k.open(v, nil, slices.Concat(nonce, sealed), nil, data); err != nil || string(got) != string(plain) {
			t.Errorf("%s opens to %x, %v", c.kind, got, err)
		}
		aead, err := kind.aead(v.secret)
		if err != nil {
			t.Fatal(err)
		}
		if got := aead.Seal(nil, nonce, plain, data); string(got) != string(sealed) {
			t.Errorf("%s seals to %x", c.kind, got)
		}
		for i := range sealed { // every bit counts
			bad := slices.Concat(nonce, sealed)
			bad[len(nonce)+i] ^= 1
			if _, err := k.open(v, nil, bad, nil, data); err == nil {
				t.Fatalf("%s opens with byte %d changed", c.kind, i)
			}
		}
	}
}

func TestDeriveRefuses(t *testing.T) {
	k := &key{policy: policy{KDF: kdfHKDF}, kind: kindOf("aes256-gcm96")}
	if _, err := k.deriveBytes(make([]byte, 32), nil, 32); err != errNoContext {
		t.Errorf("without a context: %v", err)
	}
	k.KDF = "other"
	if _, err := k.deriveBytes(make([]byte, 32), []byte("c"), 32); err == nil {
		t.Error("an unknown function derives")
	}
}

// RFC 8032, section 7.1, test 1: the seed makes the public key.
func TestEd25519Vector(t *testing.T) {
	seed := unhex(t, "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
	public := unhex(t, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
	entry := &backupEntry{Key: slices.Concat(seed, public)}
	r, err := entry.record(&policy{Type: "ed25519"}, kindOf("ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	k := &key{policy: policy{Type: "ed25519"}, kind: kindOf("ed25519")}
	v, err := k.parse(1, r)
	if err != nil || !v.public.(ed25519.PublicKey).Equal(ed25519.PublicKey(public)) {
		t.Errorf("%v, %v", v, err)
	}
}
