package kv

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// kilobyte is a secret of 1 KB.
var kilobyte = `{"password":"` + strings.Repeat("x", 1000) + `"}`

// BenchmarkGet reads a 1 KB secret that has ten versions; "storage" is the
// part of it that is storage's Get of the same record.
func BenchmarkGet(b *testing.B) {
	k := newKeep(b)
	k.must(k.putMetadata("app/db", Settings{}, `{"owner":"jdoe"}`))
	for range 10 {
		k.mustPut("app/db", kilobyte)
	}
	for name, fn := range map[string]func(tx *storage.Tx) error{
		"storage": func(tx *storage.Tx) error { _, err := tx.Get(k.e.secretKey("app/db")); return err },
		"newest":  func(tx *storage.Tx) error { _, err := k.e.Get(tx, "app/db", 0, k.now); return err },
		"older":   func(tx *storage.Tx) error { _, err := k.e.Get(tx, "app/db", 5, k.now); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				k.must(k.view(fn))
			}
		})
	}
}

// BenchmarkDecode is what the engine adds to storage's Get for the newest
// version.
func BenchmarkDecode(b *testing.B) {
	r := record{current: 10, created: 1, updated: 1, custom: []byte(`{"owner":"jdoe"}`), data: []byte(kilobyte)}
	for range 10 {
		r.versions = append(r.versions, newVersion(1, 0)...)
	}
	raw := r.encode()
	e := Engine{Prefix: "mounts/7f3a"}
	b.ReportAllocs()
	for b.Loop() {
		if err := e.check("app/db/primary"); err != nil {
			b.Fatal(err)
		}
		r, err := decodeRecord(raw)
		if err != nil || r.version(r.current).gone(start) {
			b.Fatal(err)
		}
		if s := (Secret{r.data, r.meta(r.current)}); s.Meta.Version != 10 {
			b.Fatal(s.Meta)
		}
	}
}

// BenchmarkPut writes 1 KB secrets, 64 to a transaction as the group commit
// does under load: new ones, and further versions of the same.
func BenchmarkPut(b *testing.B) {
	for _, name := range []string{"new", "again"} {
		b.Run(name, func(b *testing.B) {
			k := newKeep(b)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				k.must(k.update(func(tx *storage.Tx) error {
					for i := range 64 {
						if name == "new" {
							i = n
						}
						d, err := Parse("data", []byte(kilobyte))
						if err != nil {
							return err
						}
						if _, err := k.e.Put(tx, fmt.Sprintf("app/%d", i), d, nil, k.now); err != nil {
							return err
						}
						n++
					}
					return nil
				}))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/put")
		})
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("data", []byte(kilobyte)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBody reads the body of a write.
func BenchmarkBody(b *testing.B) {
	r := &api.Request{Body: []byte(`{"data":{"v":"` + strings.Repeat("x", 1024) + `"}}`)}
	b.SetBytes(int64(len(r.Body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := new(dataInput).Decode(r); err != nil {
			b.Fatal(err)
		}
	}
}
