package login

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

func TestCache(t *testing.T) {
	var c Cache[int, string]
	computed := 0
	get := func(uuid string, version int, want string) {
		t.Helper()
		got, err := c.Get(uuid, version, func(string) (string, error) {
			computed++
			return fmt.Sprint(uuid, version, "#", computed), nil
		})
		if err != nil || got != want {
			t.Errorf("%s at %d: %q %v, want %q", uuid, version, got, err, want)
		}
	}
	failed := errors.New("failed")
	if _, err := c.Get("a", 0, func(string) (string, error) { return "", failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	get("a", 0, "a0#1") // the error was not kept, and no value is that of the zero version
	get("a", 0, "a0#1")
	get("b", 0, "b0#2")
	get("a", 1, "a1#3")
	get("a", 1, "a1#3")
	get("b", 0, "b0#2")
	get("a", 0, "a0#4") // an older version replaces a newer one
	over := func(old string) (string, error) { return "after " + old, nil }
	if got, _ := c.Get("a", 2, over); got != "after a0#4" {
		t.Errorf("the old value was %q", got)
	}
	c.Forget("a")
	if got, _ := c.Get("a", 3, over); got != "after " {
		t.Errorf("the old value was %q", got)
	}
	for i := range 2 * maxCached {
		if _, err := c.Get(fmt.Sprint(i), 0, func(string) (string, error) { return "", nil }); err != nil {
			t.Fatal(err)
		}
		if len(c.values) > maxCached {
			t.Fatalf("%d values", len(c.values))
		}
	}
}

// TestCacheAtOnce: many who ask at once, while the version changes, each get a value
// of the version that they asked for, and all of one version the same.
func TestCacheAtOnce(t *testing.T) {
	type made struct{ uuid, version int }
	var c Cache[int, *made]
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 2000 {
				uuid, version := i%3, i/50
				got, err := c.Get(fmt.Sprint(uuid), version, func(*made) (*made, error) { return &made{uuid, version}, nil })
				if err != nil || *got != (made{uuid, version}) {
					t.Errorf("%v %v", got, err)
					return
				}
			}
		})
	}
	all.Wait()

	values, begin := make([]*made, 8), make(chan struct{})
	for i := range values {
		all.Go(func() {
			values[i], _ = c.Get("x", 7, func(*made) (*made, error) { <-begin; return new(made), nil })
		})
	}
	close(begin)
	all.Wait()
	for _, v := range values {
		if v == nil || v != values[0] {
			t.Error("two values of one version")
		}
	}
}
