package transit

import (
	"fmt"
	"testing"

	"github.com/sealkeep/sealkeep/api"
)

func TestHash(t *testing.T) {
	k := newKeep(t)
	// FIPS 180-4 and FIPS 202, of "abc".
	for name, want := range map[string]string{
		"sha2-224": "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
		"sha2-256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha2-384": "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
		"sha2-512": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
		"sha3-224": "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf",
		"sha3-256": "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
		"sha3-384": "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25",
		"sha3-512": "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
	} {
		for path, body := range map[string]string{
			"hash/" + name: `{"input":"YWJj"}`, "hash": `{"input":"YWJj","algorithm":"` + name + `"}`, "hash/": ``,
		} {
			if body == "" {
				path, body = "hash", `{"input":"YWJj","format":"hex","hash_algorithm":"`+name+`"}`
			}
			if got := k.shown(k.must(api.Write, path, body))["sum"]; got != want {
				t.Errorf("%s %s: %v", path, body, got)
			}
		}
	}
	if got := k.shown(k.must(api.Write, "hash", `{"input":"","format":"base64"}`))["sum"]; got != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Errorf("%v", got)
	}
	k.refuse("input missing", api.Write, "hash", "")
	k.refuse("unable to decode input as base64: illegal base64 data at input byte 0", api.Write, "hash", `{"input":"a"}`)
	k.refuse("unsupported algorithm sha1", api.Write, "hash/sha1", `{"input":""}`)
	k.refuse(`unsupported encoding format "x"; must be "hex" or "base64"`, api.Write, "hash", `{"input":"","format":"x"}`)
}

func TestRandom(t *testing.T) {
	k := newKeep(t)
	for path, want := range map[string]int{"random": 44, "random/5": 8, "random/platform": 44, "random/all/2": 4, "random/seal/1": 4} {
		a := k.must(api.Write, path, "")
		if text := k.shown(a)["random_bytes"].(string); len(text) != want || len(a.Warnings) > 0 != (path == "random/seal/1") {
			t.Errorf("%s: %q, %v", path, text, a.Warnings)
		}
	}
	if text := k.shown(k.must(api.Write, "random", `{"bytes":"3","format":"hex","source":"platform"}`))["random_bytes"].(string); len(text) != 6 {
		t.Errorf("%q", text)
	}
	k.refuse("'bytes' cannot be less than 1", api.Write, "random/0", "")
	k.refuse("'bytes' should be less than 131072", api.Write, "random", `{"bytes":131073}`)
	k.refuse("error parsing url-set byte count: it is not a number", api.Write, "random/x", "")
	k.refuse(`unsupported entropy source "x"; must be "platform" or "seal", or "all"`, api.Write, "random/x/1", "")
}

func TestHMAC(t *testing.T) {
	k := newKeep(t)
	for _, kind := range kinds {
		if kind.bits > 2048 {
			continue
		}
		name := kind.name
		k.newKey(name, kind, "")
		k.must(api.Write, "keys/"+name+"/rotate", "")
		for algorithm := range hashes {
			one := k.shown(k.must(api.Write, "hmac/"+name+"/"+algorithm, `{"input":"eA==","key_version":"1"}`))
			two := k.shown(k.must(api.Write, "hmac/"+name, `{"input":"eA==","algorithm":"`+algorithm+`"}`))
			if one["key_version"] != 1.0 || two["key_version"] != 2.0 || one["hmac"] == two["hmac"] {
				t.Errorf("%v, %v", one, two)
			}
			for _, sum := range []any{one["hmac"], two["hmac"]} {
				for input, valid := range map[string]bool{"eA==": true, "eQ==": false, "": false} {
					for path, more := range map[string]string{"verify/" + name: `,"hash_algorithm":"` + algorithm + `"`, "verify/" + name + "/" + algorithm: ""} {
						if data := k.shown(k.must(api.Write, path, fmt.Sprintf(`{"input":%q,"hmac":%q%s}`, input, sum, more))); data["valid"] != valid {
							t.Errorf("%s %v of %q: %v", path, sum, input, data)
						}
					}
				}
			}
		}
	}
	k.must(api.Write, "keys/hmac/rotate", "")
	k.must(api.Write, "keys/hmac/config", `{"min_decryption_version":2,"min_encryption_version":3}`)
	for _, c := range []struct{ path, body, text string }{
		{"hmac/nothing", `{"input":""}`, "encryption key not found"},
		{"hmac/hmac", ``, "missing input for HMAC"},
		{"hmac/hmac", `{"input":"a"}`, "unable to decode input as base64: illegal base64 data at input byte 0"},
		{"hmac/hmac/none", `{"input":""}`, `unsupported algorithm "none"`},
		{"hmac/hmac", `{"input":"","key_version":2}`, "cannot generate HMAC: version is too old (disallowed by policy)"},
		{"hmac/hmac", `{"input":"","key_version":4}`, "key version does not exist; latest key version is 3"},
		{"hmac/hmac", `{"input":"","key_version":-1}`, "key version does not exist (cannot be negative)"},
		{"verify/hmac/none", `{"input":"","hmac":""}`, `invalid hash algorithm "none"`},
		{"verify/hmac", `{"hmac":""}`, "invalid HMAC to verify: no prefix"},
		{"verify/hmac", `{"input":""}`, "neither a 'signature' nor an 'hmac' were given to verify"},
		{"verify/hmac", `{"input":"","hmac":"x"}`, "invalid HMAC to verify: no prefix"},
		{"verify/hmac", `{"input":"","hmac":"vault:v1"}`, "invalid HMAC: wrong number of fields"},
		{"verify/hmac", `{"input":"","hmac":"vault:vx:"}`, "invalid HMAC: version number could not be decoded"},
		{"verify/hmac", `{"input":"","hmac":"vault:v1:a"}`, "unable to decode verification HMAC as base64: illegal base64 data at input byte 0"},
		{"verify/hmac", `{"input":"","hmac":"vault:v4:"}`, "invalid HMAC: version is too new"},
		{"verify/hmac", `{"input":"","hmac":"vault:v1:"}`, "cannot verify HMAC: version is too old (disallowed by policy)"},
	} {
		k.refuse(c.text, api.Write, c.path, c.body)
	}
	a := k.must(api.Write, "hmac/hmac", `{"batch_input":[{"input":"eA==","reference":"r"},{},{"input":"","key_version":9}]}`)
	results := k.shown(a)["batch_results"].([]any)
	sum := results[0].(map[string]any)
	if a.Status != 0 || len(results) != 3 || sum["key_version"] != 3.0 || sum["reference"] != "r" || results[1].(map[string]any)["error"] != "missing input for HMAC" {
		t.Errorf("%+v: %v", a, results)
	}
	a = k.must(api.Write, "verify/hmac", fmt.Sprintf(`{"batch_input":[{"input":"eA==","hmac":%q},{"input":"","hmac":%[1]q},{"hmac":""}]}`, sum["hmac"]))
	if got := fmt.Sprint(k.shown(a)["batch_results"]); got != "[map[reference: valid:true] map[reference: valid:false] map[error:missing input reference: valid:false]]" {
		t.Errorf("%s", got)
	}
}
