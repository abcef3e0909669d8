package keep_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// identityOf is the offer of an identity, shareOf that of a share.
func identityOf(id *age.X25519Identity) string {
	return `{"identity":` + servertest.JSONText(id.String()) + `}`
}
func shareOf(share string) string { return `{"key":` + servertest.JSONText(share) + `}` }

func sharesOf(shares []string) (offers []string) {
	for _, s := range shares {
		offers = append(offers, shareOf(s))
	}
	return offers
}

// opens reports whether people open a copy of the store's file, as it is now, with
// these offers, without any key service.
func (f *fixture) opens(t testing.TB, offers ...string) bool {
	t.Helper()
	return opensFile(t, f.Path, offers...)
}

// copied is a copy of a store's file, as a crash at this moment leaves it.
func copied(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, b)
}

// opensFile is opens for a file: with packages storage and recovery alone, as
// whoever has the file could.
func opensFile(t testing.TB, path string, offers ...string) bool {
	t.Helper()
	store, err := storage.Open(copied(t, path), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	slots, err := store.Slots()
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		var identities []string
		all, err := recovery.NewCollection(slot.Lock)
		for _, text := range offers {
			var o keep.Offer
			if err := json.Unmarshal([]byte(text), &o); err != nil {
				t.Fatal(err)
			}
			if o.Identity != "" {
				identities = append(identities, o.Identity)
			} else if share, err2 := recovery.ParseShare(o.Key); err == nil && err2 == nil {
				all.Add(share)
			}
		}
		if err == nil {
			if identity, err := all.Identity(); err == nil {
				identities = append(identities, identity)
			}
		}
		for _, identity := range identities {
			root, err := recovery.Unwrap(identity, slot.Blob, slot.Context(store.UUID()))
			if err == nil && store.Unseal(root) == nil {
				return true
			}
		}
	}
	return false
}

// begin asks for n new shares of which k open, and returns the nonce.
func (f *fixture) begin(t testing.TB, n, k int) string {
	t.Helper()
	r := f.Must(t, 200, "PUT", "sys/rotate/recovery/init", fmt.Sprintf(`{"secret_shares":%d,"secret_threshold":%d}`, n, k))
	nonce, _ := r.Get("data", "nonce").(string)
	return nonce
}

// with adds the nonce to an offer.
func with(offer, nonce string) string {
	return strings.TrimSuffix(offer, "}") + `,"nonce":` + servertest.JSONText(nonce) + "}"
}

// rekeyed makes n new shares, of which k open, with offers of what opens now.
func (f *fixture) rekeyed(t testing.TB, n, k int, offers ...string) []string {
	t.Helper()
	nonce := f.begin(t, n, k)
	var r servertest.Reply
	for _, o := range offers {
		r = f.Must(t, 200, "PUT", "sys/rotate/recovery/update", with(o, nonce))
	}
	shares := texts(r.Get("data", "keys_base64"))
	if len(shares) != n || r.Get("data", "verification_required") != true || r.Get("data", "verification_nonce") == "" {
		t.Fatalf("the last share: %s", r.Text)
	}
	return shares
}

// withTwoSets is a keep with two sets of shares, any two of which open, with a seal or
// without one.
func withTwoSets(t testing.TB, seals ...keep.Seal) (f *fixture, old, fresh []string) {
	t.Helper()
	f = start(t, filepath.Join(t.TempDir(), "keep.db"), seals...)
	old = f.initShares(t, 3, 2)
	return f, old, f.rekeyed(t, 3, 2, sharesOf(old[:2])...)
}

func (f *fixture) names() (names []string) {
	for _, sl := range f.Status().Slots {
		names = append(names, sl.Name)
	}
	slices.Sort(names)
	return names
}

// Wherever enough of the new shares are given, and only there, the old ones end.
func TestNewSharesOpenBesideTheOldOnesUntilTheyAreGivenBack(t *testing.T) {
	prove := map[string]func(t *testing.T, f *fixture, fresh []string) servertest.Reply{
		"rekey verify": func(t *testing.T, f *fixture, fresh []string) servertest.Reply {
			nonce, _ := f.Must(t, 200, "GET", "sys/rotate/recovery/verify", "").Get("data", "nonce").(string)
			r := f.Must(t, 200, "PUT", "sys/rotate/recovery/verify", with(shareOf(fresh[0]), nonce))
			if line(r.Get("data", "progress"), r.Get("data", "t"), r.Get("data", "n"), r.Get("data", "complete")) != "1 2 3 false" {
				t.Errorf("first: %s", r.Text)
			}
			return f.Must(t, 200, "PUT", "sys/rotate/recovery/verify", with(shareOf(fresh[2]), nonce))
		},
		"recovery verify": func(t *testing.T, f *fixture, fresh []string) servertest.Reply {
			f.Must(t, 200, "PUT", "sys/recovery/verify", shareOf(fresh[0]))
			return f.Must(t, 200, "PUT", "sys/recovery/verify", shareOf(fresh[2]))
		},
		"unseal": func(t *testing.T, f *fixture, fresh []string) servertest.Reply {
			f.Keep.Seal()
			f.Must(t, 200, "PUT", "sys/unseal", shareOf(fresh[0]))
			return f.Must(t, 200, "PUT", "sys/unseal", shareOf(fresh[2]))
		},
		"another rekey": func(t *testing.T, f *fixture, fresh []string) servertest.Reply {
			nonce := f.begin(t, 1, 1)
			f.Must(t, 200, "PUT", "sys/rotate/recovery/update", with(shareOf(fresh[0]), nonce))
			r := f.Must(t, 200, "PUT", "sys/rotate/recovery/update", with(shareOf(fresh[2]), nonce))
			f.Must(t, 204, "DELETE", "sys/rotate/recovery/init", "") // what it has made
			return r
		},
		"generate-root": func(t *testing.T, f *fixture, fresh []string) servertest.Reply {
			f.SetRecovery(nil, true)
			nonce, _ := f.Must(t, 200, "PUT", "sys/generate-root/attempt", `{}`).Get("nonce").(string)
			f.Must(t, 200, "PUT", "sys/generate-root/update", with(shareOf(fresh[0]), nonce))
			return f.Must(t, 200, "PUT", "sys/generate-root/update", with(shareOf(fresh[2]), nonce))
		},
	}
	for name, prove := range prove {
		for what, seals := range map[string]func() []keep.Seal{"with a service slot": func() []keep.Seal { return []keep.Seal{servertest.NewSeal("a", 1)} }, "people alone": func() []keep.Seal { return nil }} {
			t.Run(name+", "+what, func(t *testing.T) {
				f, old, fresh := withTwoSets(t, seals()...)
				before := copied(t, f.Path)
				if !opensFile(t, before, sharesOf(old[1:])...) || !opensFile(t, before, sharesOf(fresh[1:])...) {
					t.Fatal("both sets must open")
				}
				st := f.Must(t, 200, "GET", "sys/seal-status", "")
				if w := fmt.Sprint(st.Get("warnings")); !strings.Contains(w, "two sets of recovery shares are open since") || !strings.Contains(w, "when 2 of the 3 new shares are given") {
					t.Errorf("status: %s", st.Text)
				}
				// One share of each is not enough for anything.
				f.Must(t, 200, "PUT", "sys/recovery/verify", shareOf(old[0]))
				f.Must(t, 200, "PUT", "sys/recovery/verify", shareOf(fresh[0]))
				if r := f.Must(t, 200, "PUT", "sys/recovery/verify", `{"reset":true}`); len(r.Get("data", "slots").([]any)) != 2 {
					t.Errorf("slots: %s", r.Text)
				}

				r := prove(t, f, fresh)
				if w := fmt.Sprint(r.Get("warnings")); !strings.Contains(w, "the old shares have ended") || !strings.Contains(w, "rotate-root") {
					t.Errorf("the answer does not say what it means: %s", r.Text)
				}
				if sl := f.Slot(t, keep.SharesSlot); sl.Verified.IsZero() || !sl.Since.IsZero() || sl.Warning != "" || slices.Contains(f.names(), keep.NewSharesName) {
					t.Errorf("slots: %+v", f.Status().Slots)
				}
				if st := f.Must(t, 200, "GET", "sys/seal-status", ""); strings.Contains(st.Text, "two sets") {
					t.Errorf("status: %s", st.Text)
				}
				if f.opens(t, sharesOf(old)...) {
					t.Error("the old shares open the keep still")
				}
				if !f.opens(t, sharesOf(fresh[:2])...) {
					t.Error("the new shares do not open the keep")
				}
				if !opensFile(t, before, sharesOf(old[:2])...) {
					t.Error("the copy from before does not open with the old shares")
				}
			})
		}
	}
}

// A share of one set leaves what was given of the other as it is.
func TestSharesOfTwoSetsAreGatheredApart(t *testing.T) {
	f, old, fresh := withTwoSets(t)
	f.Keep.Seal()
	for i, share := range []string{old[0], fresh[0], old[0], fresh[0]} {
		r := f.give(t, share)
		if i < 2 && line(r.Get("progress"), r.Get("t"), r.Get("n")) != "1 2 3" || i >= 2 && !strings.Contains(r.Errors(), "given before") {
			t.Errorf("share %d: %s", i, r.Text)
		}
	}
	if r := f.give(t, old[1]); r.Get("sealed") != false {
		t.Errorf("the second old share: %s", r.Text)
	}
	if !slices.Contains(f.names(), keep.NewSharesName) {
		t.Error("old shares have ended a set")
	}
	// The same where somebody has put a foreign slot into the file, under the
	// lock that the old shares open.
	f.Stop(t)
	own := editSlot(t, f.Path, keep.SharesSlot, func(*storage.Slot) {})
	editSlot(t, f.Path, keep.NewSharesName, func(slot *storage.Slot) {
		*slot = own
		slot.Name, slot.Blob = keep.NewSharesName, []byte("nonsense")
	})
	f = start(t, f.Path)
	f.give(t, old[1])
	if r := f.give(t, old[2]); r.Get("sealed") != false {
		t.Error("a foreign slot keeps the old shares from opening the keep")
	}
}

// A rekey proved by the old shares replaces the new ones; calling it off takes the
// new ones away, and never the old ones.
func TestRekeyReplacesAndCancelsTheNewSharesAlone(t *testing.T) {
	f, old, fresh := withTwoSets(t)
	another := f.rekeyed(t, 2, 2, sharesOf(old[:2])...)
	if f.opens(t, sharesOf(fresh)...) || !f.opens(t, sharesOf(another)...) || !f.opens(t, sharesOf(old[:2])...) {
		t.Error("a second rekey must replace the new shares, and nothing else")
	}
	if r := f.Must(t, 200, "GET", "sys/rotate/recovery/init", ""); r.Get("data", "verification_required") != true || r.Get("data", "started") != false || line(r.Get("data", "required")) != "2" {
		t.Errorf("status: %s", r.Text)
	}
	for range 2 {
		f.Must(t, 204, "DELETE", "sys/rotate/recovery/init", "")
	}
	if f.opens(t, sharesOf(another)...) || !f.opens(t, sharesOf(old[:2])...) {
		t.Error("calling it off must take the new shares away, and nothing else")
	}
	f.Must(t, 400, "PUT", "sys/rotate/recovery/verify", shareOf(another[0]))
}

// Where the old shares were removed, beside a slot that opens, nothing takes away
// the new ones but that either; given back, they are the only set.
func TestNewSharesOutliveTheRemovalOfTheOldOnes(t *testing.T) {
	f, old, fresh := withTwoSets(t, servertest.NewSeal("a", 1))
	f.Must(t, 200, "DELETE", "sys/slots/"+keep.SharesSlot, "")
	if r := f.Must(t, 400, "DELETE", "sys/rotate/recovery/init", ""); !strings.Contains(r.Errors(), "no old recovery shares any more") {
		t.Errorf("calling off: %s", r.Text)
	}
	if sl := f.Slot(t, keep.NewSharesName); !strings.Contains(sl.Warning, "nobody has shown to hold them") {
		t.Errorf("warning: %q", sl.Warning)
	}
	if st := f.Must(t, 200, "GET", "sys/seal-status", ""); line(st.Get("t"), st.Get("n")) != "2 3" {
		t.Errorf("status: %s", st.Text)
	}
	f.Must(t, 200, "PUT", "sys/recovery/verify", shareOf(fresh[0]))
	f.Must(t, 200, "PUT", "sys/recovery/verify", shareOf(fresh[1]))
	if f.opens(t, sharesOf(old)...) || !f.opens(t, sharesOf(fresh[1:])...) || slices.Contains(f.names(), keep.NewSharesName) {
		t.Errorf("slots: %v", f.names())
	}
}

// New shares that open their slot, but not to the root key in use, end nothing.
func TestNewSharesThatHoldAnotherRootKeyEndNothing(t *testing.T) {
	f := start(t, filepath.Join(t.TempDir(), "keep.db"))
	old := f.initShares(t, 1, 1)
	slot, shares, err := keep.NewSharesSlot(keep.NewSharesName, 1, 1, storage.NewRootKey(), f.Store().UUID(), 1, f.Clock.Now())
	if err == nil {
		err = f.Store().PutSlot(t.Context(), slot)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Rearrange()
	nonce, _ := f.Must(t, 200, "GET", "sys/rotate/recovery/verify", "").Get("data", "nonce").(string)
	for range 2 {
		f.Must(t, 500, "PUT", "sys/rotate/recovery/verify", with(shareOf(base64.StdEncoding.EncodeToString(shares[0])), nonce))
		if r := f.Must(t, 200, "GET", "sys/rotate/recovery/verify", ""); r.Get("data", "nonce") != nonce || line(r.Get("data", "progress")) != "0" {
			t.Errorf("status: %s", r.Text)
		}
	}
	if !f.opens(t, shareOf(old[0])) || !slices.Contains(f.names(), keep.NewSharesName) {
		t.Errorf("slots: %v", f.names())
	}
}

// Whatever comes at once, some shares that were handed out open the keep, and of
// all that ever were, at most two sets do.
func TestRekeysAtOnceLeaveSharesThatOpen(t *testing.T) {
	f, old, fresh := withTwoSets(t)
	var mu sync.Mutex
	sets := [][]string{old, fresh}
	some := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return sets[max(0, len(sets)-1-rand.N(3))]
	}
	var wait sync.WaitGroup
	for worker := range 4 {
		wait.Go(func() {
			for i := range 25 {
				switch set := some(); (worker + i) % 5 {
				case 0:
					nonce, _ := f.Call(t, "PUT", "sys/rotate/recovery/init", `{"secret_shares":2,"secret_threshold":2}`).Get("data", "nonce").(string)
					for _, share := range set[:2] {
						r := f.Call(t, "PUT", "sys/rotate/recovery/update", with(shareOf(share), nonce))
						if made := texts(r.Get("data", "keys_base64")); len(made) > 0 {
							mu.Lock()
							sets = append(sets, made)
							mu.Unlock()
						}
					}
				case 1:
					nonce, _ := f.Call(t, "GET", "sys/rotate/recovery/verify", "").Get("data", "nonce").(string)
					for _, share := range set[:2] {
						f.Call(t, "PUT", "sys/rotate/recovery/verify", with(shareOf(share), nonce))
					}
				case 2:
					for _, share := range set[:2] {
						f.Call(t, "PUT", "sys/recovery/verify", shareOf(share))
					}
				case 3:
					if i%2 == 0 {
						f.Call(t, "DELETE", "sys/rotate/recovery/init", "")
					}
					f.Call(t, "GET", "sys/rotate/recovery/init", "")
				default:
					f.Call(t, "POST", "sys/rotate/root", `{}`)
				}
			}
		})
	}
	wait.Wait()
	n := 0
	for _, set := range sets {
		if f.opens(t, sharesOf(set[:2])...) {
			n++
		}
	}
	t.Logf("%d sets were handed out", len(sets))
	if want := len(f.names()); n != want || n == 0 || n > 2 {
		t.Errorf("%d of %d sets open the keep, which has the slots %v", n, len(sets), f.names())
	}
}

// A new root key is wrapped for both sets, and the date of the second stays.
func TestRotateRootWrapsBothSets(t *testing.T) {
	f, old, fresh := withTwoSets(t, servertest.NewSeal("a", 1))
	since := f.Slot(t, keep.NewSharesName).Since
	f.Must(t, 200, "POST", "sys/rotate/root", `{}`)
	if sl := f.Slot(t, keep.NewSharesName); sl.Generation != 2 || !sl.Since.Equal(since) || since.IsZero() {
		t.Errorf("slot: %+v, since %v", sl, since)
	}
	if !f.opens(t, sharesOf(old[1:])...) || !f.opens(t, sharesOf(fresh[1:])...) {
		t.Error("both sets must open")
	}
}

// A reload with other recipients, which may be mistyped, ends nobody's identity
// until a new one has opened the keep.
func TestChangedRecipientsAreAddedUntilANewOneHasOpened(t *testing.T) {
	a, b, c, mistyped := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	for what, seals := range map[string][]keep.Seal{"with a service slot": {servertest.NewSeal("a", 1)}, "people alone": nil} {
		t.Run(what, func(t *testing.T) {
			f := start(t, filepath.Join(t.TempDir(), "keep.db"), seals...)
			reload := func(ids ...*age.X25519Identity) {
				t.Helper()
				var recipients []string
				for _, id := range ids {
					recipients = append(recipients, id.Recipient().String())
				}
				f.SetRecovery(recipients, false)
				if f.Unsealed() == nil {
					return
				}
				for range 2 { // the second time there is nothing to do
					if err := f.ReconcileRecovery(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			want := func(what string, yes, no []*age.X25519Identity) {
				t.Helper()
				for _, id := range yes {
					if !f.opens(t, identityOf(id)) {
						t.Errorf("%s: %s does not open the keep", what, id.Recipient())
					}
				}
				for _, id := range no {
					if f.opens(t, identityOf(id)) {
						t.Errorf("%s: %s opens the keep", what, id.Recipient())
					}
				}
			}
			type ids = []*age.X25519Identity
			reload(a, b)
			f.Root, _ = f.Must(t, 200, "PUT", "sys/init", `{}`).Get("root_token").(string)

			reload(a, mistyped)
			want("mistyped", ids{a, b}, nil)
			if w := f.Slot(t, keep.NewAgeName).Warning; !strings.Contains(w, "two sets of age recipients are open since") {
				t.Errorf("warning: %q", w)
			}
			// Who opened the old slot, too, shows nothing about what is new.
			r := f.Must(t, 200, "PUT", "sys/recovery/verify", identityOf(a))
			if r.Get("warnings") != nil || !slices.Contains(f.names(), keep.NewAgeName) {
				t.Errorf("an old identity: %s", r.Text)
			}
			want("an old identity was given", ids{a, b}, nil)
			reload(a, c)
			want("corrected", ids{a, b, c}, ids{mistyped})
			reload(a, b)
			want("taken back", ids{a, b}, ids{c, mistyped})
			if slices.Contains(f.names(), keep.NewAgeName) {
				t.Errorf("slots: %v", f.names())
			}
			reload(c, a)
			f.Must(t, 200, "POST", "sys/rotate/root", identityOf(a))
			want("rotated", ids{a, b, c}, nil)
			r = f.Must(t, 200, "PUT", "sys/recovery/verify", `{"identity":`+servertest.JSONText(a.String()+"\n"+c.String())+`}`)
			if w := fmt.Sprint(r.Get("warnings")); !strings.Contains(w, "the old identities have ended") {
				t.Errorf("a new identity: %s", r.Text)
			}
			want("opened", ids{a, c}, ids{b})
			if sl := f.Slot(t, keep.AgeSlot); sl.Verified.IsZero() || slices.Contains(f.names(), keep.NewAgeName) {
				t.Errorf("slots: %v, %+v", f.names(), sl)
			}

			// One more locks nobody out: nothing has to be shown for it.
			reload(a, b, c)
			want("one more", ids{a, b, c}, nil)
			if slices.Contains(f.names(), keep.NewAgeName) {
				t.Errorf("slots: %v", f.names())
			}
			// One less takes an identity that stays.
			reload(b)
			want("fewer", ids{a, b, c}, nil)
			f.Keep.Seal()
			f.Must(t, 200, "PUT", "sys/unseal", identityOf(b))
			want("fewer, opened", ids{b}, ids{a, c})

			// Or the old ones end beside a service slot that opens now.
			reload(a)
			r = f.Call(t, "DELETE", "sys/slots/"+keep.AgeSlot, "")
			if seals == nil {
				if r.Status != 400 {
					t.Errorf("nothing else opens: %s", r.Text)
				}
				want("refused", ids{a, b}, nil)
				return
			}
			if r.Status != 200 {
				t.Fatal(r.Text)
			}
			reload(a)
			want("removed", ids{a}, ids{b})
			if slices.Contains(f.names(), keep.NewAgeName) {
				t.Errorf("slots: %v", f.names())
			}
		})
	}
}

// interrupt lets one request be carried out up to its handler, does something, and
// then goes on with it.
func (f *fixture) interrupt(t testing.TB, method, path string, do func(*api.Request)) (restore func()) {
	t.Helper()
	op := map[string]api.Op{"PUT": api.Write, "POST": api.Write, "GET": api.Read, "DELETE": api.Delete}[method]
	return f.Before(path, op, do)
}

// The ways in which a request is not what it should be: its client is gone before
// it is carried out, or before it is answered; nobody can record the answer.
var interruptions = []string{"gone before", "gone after", "unaudited"}

// Whatever happens between the steps of a rekey: what people hold in their hands
// opens the keep, and what has ended does not. Each state in the file is what a
// crash leaves there.
func TestNobodyIsLockedOutByARekey(t *testing.T) {
	for _, how := range interruptions {
		for _, service := range []bool{true, false} {
			for step := range 6 { // the first is numbered 0
				t.Run(fmt.Sprintf("%s, service slot %t, step %d", how, service, step), func(t *testing.T) {
					d, die, _ := servertest.Collector(t)
					var seals []keep.Seal
					if service {
						seals = []keep.Seal{servertest.NewSeal("a", 1)}
					}
					f := startAudited(t, filepath.Join(t.TempDir(), "keep.db"), []audit.Device{d}, seals...)
					old := f.initShares(t, 3, 2)
					var fresh []string
					verify := false
					request := func(n int, method, path, body string) (r servertest.Reply, answered bool) {
						t.Helper()
						if n != step {
							return f.Must(t, 200, method, path, body), true
						}
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						restore := f.interrupt(t, method, path, func(r *api.Request) {
							switch how {
							case "gone before":
								cancel()
							case "unaudited":
								die()
							}
						})
						defer restore()
						req := httptest.NewRequest(method, "http://keep/v1/"+path, strings.NewReader(body)).WithContext(ctx)
						req.Header.Set("X-Vault-Token", f.Root)
						f.HTTP.ServeHTTP(httptest.NewRecorder(), req) // nobody reads the answer
						return r, false
					}
					check := func(n int, what string) {
						t.Helper()
						if n < step { // nothing has happened yet
							return
						}
						// Somebody who has given back enough new shares holds them; else the old ones are what is held.
						if verify {
							if !f.opens(t, sharesOf(fresh[1:])...) {
								t.Fatalf("%s: the new shares that were given back do not open", what)
							}
						} else if !f.opens(t, sharesOf(old[1:])...) {
							t.Fatalf("%s: the old shares do not open", what)
						}
						if fresh != nil && !f.opens(t, sharesOf(fresh[1:])...) {
							t.Fatalf("%s: new shares that were handed out do not open", what)
						}
					}
					over := func(n int) bool { return n == step && how == "unaudited" } // nothing more is carried out
					r, ok := request(0, "PUT", "sys/rotate/recovery/init", `{"secret_shares":3,"secret_threshold":2}`)
					check(0, "asked")
					if over(0) {
						return
					}
					if !ok { // is it under way?
						r = f.Must(t, 200, "GET", "sys/rotate/recovery/init", "")
					}
					nonce, _ := r.Get("data", "nonce").(string)
					if request(1, "PUT", "sys/rotate/recovery/update", with(shareOf(old[0]), nonce)); over(1) {
						check(1, "first share")
						return
					}
					r, ok = request(2, "PUT", "sys/rotate/recovery/update", with(shareOf(old[1]), nonce))
					check(2, "last share")
					if over(2) {
						if slices.Contains(f.names(), keep.NewSharesName) {
							t.Error("new shares were committed of which no audit log knows")
						}
						return
					}
					if fresh = texts(r.Get("data", "keys_base64")); !ok { // they are lost: begin again
						fresh = f.rekeyed(t, 3, 2, sharesOf(old[:2])...)
					}
					check(2, "two sets")
					nonce, _ = f.Must(t, 200, "GET", "sys/rotate/recovery/verify", "").Get("data", "nonce").(string)
					if request(3, "PUT", "sys/rotate/recovery/verify", with(shareOf(fresh[0]), nonce)); over(3) {
						check(3, "given back one")
						return
					}
					request(4, "PUT", "sys/rotate/recovery/verify", with(shareOf(fresh[1]), nonce))
					verify = true
					check(4, "given back")
					if step == 4 && f.opens(t, sharesOf(old)...) {
						t.Error("the old shares have ended, and open")
					}
					if over(4) {
						return
					}
					request(5, "POST", "sys/rotate/root", fmt.Sprintf(`{"keys":[%q,%q]}`, fresh[1], fresh[2]))
					check(5, "rotated")
				})
			}
		}
	}
}

// What is told once is in the audit log before it is committed, or is not done.
func TestWhatIsToldOnceIsAuditedBeforeItIsCommitted(t *testing.T) {
	t.Run("init", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keep.db")
		full := audit.Device{Path: "full/", Type: "file", Options: map[string]string{"file_path": "/dev/full"}}
		f := startAudited(t, path, []audit.Device{full}, servertest.NewSeal("a", 1))
		r := f.Must(t, 500, "PUT", "sys/init", `{}`)
		if _, err := os.Lstat(path); err == nil || !strings.Contains(r.Errors(), "nothing was written") || strings.Contains(r.Text, "root_token") {
			t.Errorf("%v: %s", err, r.Text)
		}
		d, file := servertest.AuditFile(t)
		if err := f.SetAudit([]audit.Device{d}, false); err != nil {
			t.Fatal(err)
		}
		out := f.Must(t, 200, "PUT", "sys/init", `{}`)
		f.Root, _ = out.Get("root_token").(string)
		f.Must(t, 200, "GET", "auth/token/lookup-self", "")
		list := servertest.Records(t, file) // one chain, from the first line on
		if len(list) != 4 || list[0].Get("request", "path") != "sys/init" || list[1]["type"] != "response" || list[0].Get("request", "id") != list[1].Get("request", "id") {
			t.Fatalf("the log has %v", list)
		}
		hash := f.Must(t, 200, "POST", "sys/audit-hash/file", `{"input":`+servertest.JSONText(f.Root)+`}`).Get("data", "hash")
		if hash != list[1].Get("response", "data", "root_token") {
			t.Errorf("the root token's hash is %v, the log has %v", hash, list[1])
		}
		if b, _ := os.ReadFile(file); strings.Contains(string(b), f.Root) || strings.Contains(string(b), texts(out.Get("recovery_keys"))[0]) {
			t.Error("the log has a secret")
		}
	})
	id := newIdentity(t)
	for name, c := range map[string]struct {
		begin, path string
		changes     func(f *fixture) string
	}{
		"first shares":  {"", "sys/rotate/recovery/init", func(f *fixture) string { return fmt.Sprint(f.names()) }},
		"generate-root": {"sys/generate-root/attempt", "sys/generate-root/update", func(f *fixture) string { return fmt.Sprint(f.accessors(t)) }},
		"rotate-root":   {"", "sys/rotate/root", func(f *fixture) string { return f.Status().Fingerprint }},
		"rekey":         {"sys/rotate/recovery/init", "sys/rotate/recovery/update", func(f *fixture) string { return fmt.Sprint(f.names()) }},
	} {
		t.Run(name, func(t *testing.T) {
			for _, works := range []bool{false, true} {
				d, die, _ := servertest.Collector(t)
				f := startAudited(t, filepath.Join(t.TempDir(), "keep.db"), []audit.Device{d}, servertest.NewSeal("a", 1))
				f.SetRecovery([]string{id.Recipient().String()}, true)
				f.Root, _ = f.Must(t, 200, "PUT", "sys/init", `{}`).Get("root_token").(string)
				if name == "rekey" {
					f.begin(t, 1, 1)
				}
				body := `{}`
				if c.begin != "" {
					r := f.Must(t, 200, "PUT", c.begin, `{}`)
					nonce, _ := r.Get("nonce").(string)
					body = with(identityOf(id), nonce)
				}
				before := c.changes(f)
				defer f.interrupt(t, "PUT", c.path, func(*api.Request) {
					if !works {
						die()
					}
				})()
				r := f.Call(t, "PUT", c.path, body)
				if works {
					if r.Status != 200 || c.changes(f) == before {
						t.Errorf("%d %s", r.Status, r.Text)
					}
					continue
				}
				if r.Status != 500 || !strings.Contains(r.Errors(), "nothing was changed") || strings.Contains(r.Text, "keys") {
					t.Errorf("%d %s", r.Status, r.Text)
				}
				if after := c.changes(f); after != before {
					t.Errorf("%s before, %s after", before, after)
				}
			}
		})
	}
}

// An answer that is wrapped is recorded as it is before it is committed, and as the
// token that stands for it thereafter.
func TestWrappedSharesAreRecordedAndUnwrapped(t *testing.T) {
	d, file := servertest.AuditFile(t)
	f := startAudited(t, filepath.Join(t.TempDir(), "keep.db"), []audit.Device{d}, servertest.NewSeal("a", 1))
	old := f.initShares(t, 1, 1)
	r := f.Must(t, 200, "PUT", "sys/rotate/recovery/update", with(shareOf(old[0]), f.begin(t, 1, 1)), "X-Vault-Wrap-TTL: 60")
	token, _ := r.Get("wrap_info", "token").(string)
	fresh := texts(f.Must(t, 200, "PUT", "sys/wrapping/unwrap", `{}`, "X-Vault-Token: "+token).Get("data", "keys_base64"))
	if len(fresh) != 1 || !f.opens(t, shareOf(fresh[0])) {
		t.Errorf("%d shares were unwrapped", len(fresh))
	}
	var got []string
	for _, r := range servertest.Records(t, file) {
		if r.Get("request", "path") == "sys/rotate/recovery/update" {
			got = append(got, fmt.Sprint(r["type"], r.Get("response", "data") != nil, r.Get("response", "wrap_info") != nil))
		}
	}
	if want := "[requestfalse false responsetrue false responsefalse true]"; fmt.Sprint(got) != want {
		t.Errorf("the log has %v, want %s", got, want)
	}
}

// accessors lists the tokens, past the audit log.
func (f *fixture) accessors(t testing.TB) (list []string) {
	t.Helper()
	err := f.Store().View(t.Context(), func(tx *storage.Tx) (err error) {
		list, err = tx.List("access/accessor")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// The answer of init may be lost: until a token has been used, status says so.
func TestStatusSaysThatNoTokenHasBeenUsedYet(t *testing.T) {
	path, seal := filepath.Join(t.TempDir(), "keep.db"), servertest.NewSeal("a", 1)
	f := start(t, path, seal)
	f.Must(t, 200, "PUT", "sys/init", `{}`)
	says := func() bool {
		t.Helper()
		r := f.Must(t, 200, "GET", "sys/seal-status", "")
		return strings.Contains(fmt.Sprint(r.Get("warnings")), "no token has been used since init") && strings.Contains(r.Text, "operator init` again")
	}
	if !says() {
		t.Error("after init")
	}
	f.Stop(t)
	f = start(t, path, seal.Again())
	if err := f.Unseal(t.Context()); err != nil || !says() {
		t.Errorf("after a restart: %v", err)
	}
	f.Must(t, 403, "GET", "auth/token/lookup-self", "", "X-Vault-Token: hvs.wrong")
	if !says() {
		t.Error("a wrong token is no use of one")
	}
	f.Stop(t)
	if err := os.Remove(path); err != nil { // as the line says
		t.Fatal(err)
	}
	f = start(t, path, seal.Again())
	f.Root, _ = f.Must(t, 200, "PUT", "sys/init", `{}`).Get("root_token").(string)
	f.Must(t, 200, "GET", "auth/token/lookup-self", "")
	if says() {
		t.Error("a token was used")
	}
	f.Stop(t)
	f = start(t, path, seal.Again())
	if err := f.Unseal(t.Context()); err != nil || says() {
		t.Errorf("after a restart: %v", err)
	}
}
