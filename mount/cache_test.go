package mount

import (
	"fmt"
	"testing"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

func TestFind(t *testing.T) {
	table := &Table{byPath: map[string]*api.Mount{}}
	for _, path := range []string{"secret", "a/b", "ab"} {
		table = table.With(path, New(path+"/", "kv", "2"))
	}
	for path, want := range map[string]string{
		"secret": "secret/ ", "secret/data/x": "secret/ data/x", "a/b/data": "a/b/ data", "ab/x": "ab/ x",
		"a": "", "a/c": "", "secrets/x": "", "": "", "b": "",
	} {
		got := ""
		m, rest := table.Find(path)
		if m != nil {
			got = m.Path + " " + rest
		}
		if got != want {
			t.Errorf("%q is in %q, want %q", path, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { table.Find("secret/data/some/thing") }); n != 0 {
		t.Errorf("finding a mount allocates %v times", n)
	}
}

// The cache is bounded, and adds nothing that was looked up before a change.
func TestTokenCache(t *testing.T) {
	var c tokenCache
	id := func(n int) access.ID { return access.ID{byte(n), byte(n >> 8), byte(n >> 16)} }
	first := new(access.Token)
	c.put(id(0), first, 0)
	for n := range 5 * cacheSize {
		c.put(id(n+1), new(access.Token), 0)
		if got, _ := c.get(id(0)); got != first {
			t.Fatal("a token in use was forgotten")
		}
	}
	if n := len(c.young) + len(c.old); n > 2*cacheSize {
		t.Errorf("%d tokens in memory", n)
	}
	_, before := c.get(id(0))
	c.forget(id(7), false)
	if got, _ := c.get(id(0)); got != first {
		t.Error("forgot another one")
	}
	c.put(id(7), new(access.Token), before)
	if got, _ := c.get(id(7)); got != nil {
		t.Error("added what was looked up before it was changed")
	}
	c.forget(id(7), true)
	if got, _ := c.get(id(0)); got != nil {
		t.Error("forgot not all")
	}
}

// What is compiled is bounded in bytes, however few sets of policies there are, and
// a set that is larger than all of that is compiled once.
func TestCacheIsBoundedByBytes(t *testing.T) {
	var c sizedCache[int]
	const large = 2 << 20
	for n := range 10 * maxACLBytes / large {
		c.put(fmt.Sprint(n), n, large)
		if c.bytes > maxACLBytes {
			t.Fatalf("%d values have %d bytes", len(c.values), c.bytes)
		}
	}
	if len(c.values) < maxACLBytes/large-1 {
		t.Errorf("only %d values are kept", len(c.values))
	}
	for n := range 3 * maxACLs {
		c.put(fmt.Sprint(n%(2*maxACLs)), n, n%1000)
	}
	if len(c.values) != maxACLs {
		t.Errorf("%d values are kept", len(c.values))
	}
	c.put("large", 1, maxACLBytes)
	if len(c.values) != 1 || c.values["large"].value != 1 {
		t.Errorf("%d values beside a large one", len(c.values)-1)
	}
	c.put("small", 1, 1)
	c.put("small", 2, 2)
	if len(c.values) != 1 || c.values["small"].value != 2 || c.bytes != c.values["small"].size {
		t.Errorf("%d values of %d bytes", len(c.values), c.bytes)
	}
}
