package seal

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// KeyID is what Wrap says, before and after the key service has another key.
func TestKeyID(t *testing.T) {
	k := newKMS(t)
	k.AddKey(mrk)
	k.AddKey(mrkCopy)
	vault := newTransitServer(t)
	vault.Write("keep", "key", strings.Repeat("5a", 32))
	key, id := NewKey()
	old, oldID := NewKey()
	for name, c := range map[string]struct {
		seal   *Seal
		change func()
		cost   []string // what KeyID asks, beside renewals
	}{
		"awskms":               {awsBlock(k, "alias/main"), func() { k.SetAlias("alias/main", keyB) }, []string{"DescribeKey"}},
		"awskms, multi-region": {awsBlock(k, mrkCopy, "region", "us-east-1"), nil, []string{"DescribeKey"}},
		"vaultkv":              {kvBlock(t, vault), func() { vault.Write("keep", "key", strings.Repeat("7b", 32)) }, []string{"read", "lookup-self"}},
		"static":               {make1(t, block("static", "static", "current_key", key, "current_key_id", id, "previous_key", old, "previous_key_id", oldID)), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			keyIDCosts(t, c.seal, c.change, c.cost, func() []string { return append(k.Requests(), vault.Requests()...) })
		})
	}
	onHubs(t, func(t *testing.T, h hub) {
		token := h.token(life{})
		for _, params := range [][]string{nil, {"key_id_prefix", "here/"}} {
			seal := hubBlock(t, h, token, params...)
			keyIDCosts(t, seal, func() { h.AddKey("autounseal") }, []string{"encrypt", "lookup-self"}, h.Requests)
			seal.Close()
		}
	})
	if id := agree(t, awsBlock(k, mrkCopy, "region", "us-east-1")); id != mrkCopy {
		t.Errorf("a copy of a multi-region key is %s", id)
	}
}

// keyIDCosts wants a seal to name its key for that cost, and to notice a change.
func keyIDCosts(t *testing.T, seal *Seal, change func(), cost []string, requests func() []string) {
	t.Helper()
	before := agree(t, seal)
	requests()
	if _, err := seal.KeyID(soon(t)); err != nil {
		t.Fatal(err)
	}
	renewal := func(op string) bool { return op == "renew-self" } // the library's own goes on beside
	if got := slices.DeleteFunc(requests(), renewal); !slices.Equal(got, cost) {
		t.Errorf("KeyID asked %v", got)
	}
	if change == nil {
		return
	}
	change()
	if after := agree(t, seal); after == before {
		t.Errorf("after the change it is %s still", after)
	}
}

// agree wants KeyID and Wrap to say the same, and returns it.
func agree(t *testing.T, s *Seal) string {
	t.Helper()
	_, want, err := s.Wrap(soon(t), secret, aad)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.KeyID(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("KeyID says %s, Wrap %s", got, want)
	}
	return got
}

// It fails as Wrap does: with a class, within the context, and after Close.
func TestKeyIDFails(t *testing.T) {
	k := newKMS(t)
	vault := newTransitServer(t)
	vault.Write("keep", "key", strings.Repeat("5a", 32))
	for name, c := range map[string]struct {
		seal *Seal
		fail func(sealtest.Fault)
		heal func()
	}{
		"awskms":  {awsBlock(k, keyA), k.Fail, k.Heal},
		"transit": {transitBlock(t, vault), vault.Fail, vault.Heal},
		"vaultkv": {kvBlock(t, vault), vault.Fail, vault.Heal},
	} {
		t.Run(name, func(t *testing.T) {
			for status, want := range map[int]Class{403: AuthDenied, 429: Throttled, 500: Unreachable} {
				c.fail(sealtest.Fault{Status: status, Code: "Whatever"})
				_, err := c.seal.KeyID(soon(t))
				hasClass(t, err, want, "naming the key")
				c.heal()
			}
			// Nobody's business but Warning's: it goes on without.
			c.fail(sealtest.Fault{Op: "lookup-self", Status: 403, Message: "permission denied"})
			agree(t, c.seal)
			c.heal()

			c.fail(sealtest.Fault{Stall: true})
			ctx, cancel := contextFor(t, 100*time.Millisecond)
			defer cancel()
			_, err := c.seal.KeyID(ctx)
			hasClass(t, err, Unreachable)
			c.heal()
			c.seal.Close()
			if _, err := c.seal.KeyID(context.Background()); err == nil {
				t.Error("a closed seal names its key")
			}
		})
	}
}
