package transit

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
)

// BenchmarkEncrypt is what a request costs from its body to its answer, without the
// pipeline, of 256 bytes; "batch" is one item of a batch of a thousand.
func BenchmarkEncrypt(b *testing.B) {
	k := newKeep(b)
	for _, kind := range kinds {
		if !kind.encrypts() {
			continue
		}
		k.newKey(kind.name, kind, "")
		plain := b64(strings.Repeat("x", min(256, 190)))
		one := fmt.Sprintf(`{"plaintext":%q}`, plain)
		sealed := fmt.Sprintf(`{"ciphertext":%q}`, k.encrypt(kind.name, one))
		for _, c := range []struct {
			op, item string
			h        api.Handler
		}{{"encrypt", one, api.Do(encrypt)}, {"decrypt", sealed, api.Do(decrypt)}} {
			for name, n := range map[string]int{"single": 1, "batch": 1000} {
				body := c.item
				if n > 1 {
					body = `{"batch_input":[` + strings.Repeat(c.item+",", n-1) + c.item + `]}`
				}
				r := &api.Request{Context: context.Background(), Op: api.Write, Mount: k.mount, Store: k.store, Frame: frame{k: k}, Body: []byte(body),
					Params: api.Params{Names: &[api.MaxParams]string{"name"}, Values: [api.MaxParams]string{kind.name}}}
				b.Run(kind.name+"/"+c.op+"/"+name, func(b *testing.B) {
					b.ReportAllocs()
					for i := 0; i < b.N; i += n {
						in, _, err := c.h.Decode(r, false)
						if err == nil {
							_, err = c.h.Run(r, in)
						}
						if err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
