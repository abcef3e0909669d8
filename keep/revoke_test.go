package keep_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// peopled runs a keep in a bubble with one seal and, if n is not 0, n shares of
// which k open.
func peopled(t *testing.T, a *servertest.Seal, n, k int, recipients ...string) (f *fixture, shares []string) {
	t.Helper()
	f = start(t, filepath.Join(t.TempDir(), "keep.db"), a)
	f.SetRecovery(recipients, false)
	shares = f.initShares(t, n, k)
	f.Must(t, 200, "POST", "secret/data/kept", `{"data":{"value":"here"}}`)
	synctest.Wait()
	return f, shares
}

// restart runs the keep of f again with these seals.
func (f *fixture) restart(t *testing.T, seals ...*servertest.Seal) *fixture {
	t.Helper()
	f.Stop(t)
	var all []keep.Seal
	for _, seal := range seals {
		all = append(all, seal)
	}
	recipients := f.Recipients()
	again := start(t, f.Path, all...)
	again.SetRecovery(recipients, false)
	again.Root = f.Root
	return again
}

// refusesRotation asks for a rotation of the root key that must change nothing.
func (f *fixture) refusesRotation(t *testing.T, status int, body, want string) {
	t.Helper()
	before, slots := f.Status().Fingerprint, fmt.Sprint(stateNames(f.Status()))
	if r := f.Must(t, status, "POST", "sys/rotate/root", body); !strings.Contains(r.Errors(), want) {
		t.Errorf("%s: %s, want %q", body, r.Text, want)
	}
	if now := f.Status().Fingerprint; now != before {
		t.Fatalf("%s: changed all the same", body)
	}
	if now := fmt.Sprint(stateNames(f.Status())); now != slots {
		t.Errorf("%s: the slots are %s, and were %s", body, now, slots)
	}
}

func stateNames(st keep.Status) (out []string) {
	for _, sl := range st.Slots {
		out = append(out, line(sl.Name, sl.State, sl.Generation))
	}
	return out
}

// jsonList is a JSON list of texts.
func jsonList(texts ...string) string {
	return `["` + strings.Join(texts, `","`) + `"]`
}

// rotate-root -drop takes the last service slot only where people have shown that
// they open the keep.
func TestRotateRootDropsTheLastServiceSlotOnlyWithAProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, id := servertest.NewSeal("a", 1), newIdentity(t)
		f, shares := peopled(t, a, 3, 2, id.Recipient().String())
		a.Tell(servertest.Hangs) // the key service was stopped
		began := time.Now()
		f.refusesRotation(t, 400, `{}`, "drop it if its service is only away, revoke it if somebody else may have it")
		if d := time.Since(began); d > 30*time.Second {
			t.Errorf("it took %v to say so", d)
		}
		f.refusesRotation(t, 428, `{"drop":["a"]}`, "sealkeep operator rotate-root -drop=a")
		f.refusesRotation(t, 428, `{"drop":["a"],"revoke":["recovery-shares"]}`, "-drop=a -revoke=recovery-shares`")
		f.refusesRotation(t, 400, `{"drop":["a"],"keys":`+jsonList(shares[0])+`}`, "too few")
		f.refusesRotation(t, 400, `{"drop":["a"],"keys":`+jsonList(shares[0], shares[0])+`}`, "given before")
		f.refusesRotation(t, 400, `{"drop":["a"],"identity":"`+newIdentity(t).String()+`"}`, "use that of")
		f.refusesRotation(t, 400, `{"drop":["a","recovery-shares"],"keys":`+jsonList(shares[:2]...)+`}`, "no recovery shares")
		f.refusesRotation(t, 400, `{"drop":["a","recovery-shares","recovery-age"],"keys":`+jsonList(shares[:2]...)+`}`, "no slot that people open is kept")
		f.refusesRotation(t, 400, `{"drop":["a"],"secret_shares":2,"secret_threshold":2}`, "give as many of them as open")

		r := f.Must(t, 200, "POST", "sys/rotate/root", `{"drop":["a"],"keys":`+jsonList(shares[1:]...)+`}`)
		if line(r.Get("data", "complete"), r.Get("data", "proved_by"), r.Get("data", "slots")) != "true recovery-shares [recovery-age recovery-shares]" ||
			!strings.Contains(r.Text, "no service opens this keep at the next start") || !strings.Contains(r.Text, "operator storage compact") || !strings.Contains(r.Text, "replace those") {
			t.Error(r.Text)
		}
		f = f.restart(t, a)
		f.Must(t, 400, "PUT", "sys/unseal", `{"identity":"`+newIdentity(t).String()+`"}`)
		f.Must(t, 200, "PUT", "sys/unseal", `{"identity":"`+id.String()+`"}`)
		f.Must(t, 200, "GET", "secret/data/kept", "")
		if sl := f.Slot(t, "a"); sl.State != keep.SlotPending {
			t.Errorf("what was dropped: %+v", sl)
		}
		a.Tell(nil) // its service is back, and so is its slot
		time.Sleep(keep.RetryMost)
		synctest.Wait()
		if sl := f.Slot(t, "a"); sl.State != keep.SlotReady || sl.Generation != 2 {
			t.Errorf("what was dropped is back: %+v", sl)
		}
		f.opensAlone(t, a)
	})
}

// The proof may be an identity, or a service that is left.
func TestRotateRootIsProvedByAnIdentityOrAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, id := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2), newIdentity(t)
		f, _ := peopled(t, a, 0, 0, id.Recipient().String())
		f.reload(a.Again(), b)
		off := b.Again()
		off.Off = true
		f.reload(a.Again(), off)
		f.refusesRotation(t, 428, `{"drop":["a"]}`, "no enabled service slot") // a disabled seal proves nothing
		r := f.Must(t, 200, "POST", "sys/rotate/root", `{"drop":["a"],"identity":"`+id.String()+`"}`)
		if line(r.Get("data", "proved_by"), r.Get("data", "slots")) != "recovery-age [b recovery-age]" {
			t.Error(r.Text)
		}
		f.reload(a.Again(), b.Again())
		r = f.Must(t, 200, "POST", "sys/rotate/root", `{"drop":["a"]}`)
		if r.Get("data", "proved_by") != "b" || strings.Contains(r.Text, "no service opens") {
			t.Error(r.Text)
		}
		f.opensAlone(t, b)
	})
}

// Where nobody can prove anything, shares are made first and given back; until
// then nothing has changed, whoever is cut off or killed.
func TestRotateRootMakesSharesWhereNothingElseOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		f, _ := peopled(t, a, 0, 0)
		f.refusesRotation(t, 428, `{"revoke":["a"]}`, "secret_shares")
		f.refusesRotation(t, 400, `{"revoke":["a"],"secret_shares":2,"secret_threshold":3}`, "secret_threshold")
		shares := func(f *fixture) (nonce string, shares []string) {
			t.Helper()
			r := f.Must(t, 200, "POST", "sys/rotate/root", `{"revoke":["a"],"secret_shares":3,"secret_threshold":2}`)
			if r.Get("data", "complete") != false || !strings.Contains(r.Text, "nothing has changed yet") {
				t.Error(r.Text)
			}
			return r.Get("data", "nonce").(string), texts(r.Get("data", "keys_base64"))
		}
		body := func(nonce string, keys ...string) string {
			return `{"revoke":["a"],"nonce":"` + nonce + `","keys":` + jsonList(keys...) + `}`
		}
		nonce, lost := shares(f)
		f = f.restart(t, a.Again()) // killed before they came back
		f.OpenWithin(t, time.Second)
		synctest.Wait()
		f.refusesRotation(t, 400, body(nonce, lost[:2]...), "have them made again")
		if len(f.Status().Slots) != 1 {
			t.Errorf("slots: %v", stateNames(f.Status()))
		}
		_, older := shares(f)
		nonce, made := shares(f)
		f.refusesRotation(t, 400, body(nonce, older[:2]...), "share 1 of 2")
		f.refusesRotation(t, 400, body(nonce, made[0]), "too few")
		f.refusesRotation(t, 400, `{"revoke":["a"],"nonce":"`+nonce+`"}`, "as keys")
		f.refusesRotation(t, 400, body("other", made[:2]...), "no shares with this nonce")
		r := f.Must(t, 200, "POST", "sys/rotate/root", body(nonce, made[0], made[2]))
		if line(r.Get("data", "proved_by"), r.Get("data", "slots")) != "recovery-shares [recovery-shares]" || !strings.Contains(r.Text, "no service opens this keep at the next start") {
			t.Error(r.Text)
		}
		f.refusesRotation(t, 400, body(nonce, made[:2]...), "no shares with this nonce") // used up
		f = f.restart(t, a.Again())
		time.Sleep(time.Minute)
		if !f.Status().Sealed {
			t.Fatal("what was revoked opens the keep")
		}
		f.give(t, made[1])
		f.give(t, made[2])
		f.Must(t, 200, "GET", "secret/data/kept", "")
		synctest.Wait()
		if sl := f.Slot(t, "a"); sl.State != keep.SlotRevoked {
			t.Errorf("%+v", sl)
		}
	})
}

// Nobody has the old shares any more: they are dropped by name, and new ones made.
func TestRotateRootReplacesSharesThatAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		f, old := peopled(t, a, 3, 2)
		a.Tell(servertest.Fails("key_disabled"))
		r := f.Must(t, 200, "POST", "sys/rotate/root", `{"drop":["a","recovery-shares"],"secret_shares":1,"secret_threshold":1}`)
		share := texts(r.Get("data", "keys"))[0]
		f.Must(t, 200, "POST", "sys/rotate/root", `{"drop":["a","recovery-shares"],"nonce":"`+r.Get("data", "nonce").(string)+`","keys":["`+share+`"]}`)
		f = f.restart(t, a)
		if r := f.give(t, old[0]); r.Status != 400 {
			t.Errorf("an old share: %s", r.Text)
		}
		if r := f.give(t, share); r.Get("sealed") != false {
			t.Errorf("the new share: %s", r.Text)
		}
	})
}

// No path wraps the root key for what was revoked, but `slot add NAME`.
func TestWhatWasRevokedIsNotWrappedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, stolen := servertest.NewSeal("a", 1), servertest.NewSeal("stolen", 2)
		f := one(t, a)
		f.reload(a.Again(), stolen)
		thief := stolen.Again() // has the use of the key for ever
		r := f.Must(t, 200, "POST", "sys/rotate/root", `{"revoke":["stolen"]}`)
		if line(r.Get("data", "proved_by"), r.Get("data", "slots")) != "a [a]" || !strings.Contains(r.Text, "slot add stolen") {
			t.Error(r.Text)
		}
		check := func(when string) {
			t.Helper()
			synctest.Wait()
			if sl := f.Slot(t, "stolen"); sl.State != keep.SlotRevoked || !strings.Contains(sl.Error, "stolen-key") || !strings.Contains(sl.Hint, "slot add stolen") {
				t.Errorf("%s: %+v", when, sl)
			}
			slots, err := f.Store().Slots()
			if err != nil || len(slots) != 1 || slots[0].Name != "a" {
				t.Fatalf("%s: in the file are %+v, %v", when, slots, err)
			}
		}
		check("at once")
		time.Sleep(3 * keep.ProbeInterval)
		check("after the hourly reconciliation")
		f.reload(a.Again(), stolen.Again())
		check("after a reload")
		f.Must(t, 200, "POST", "sys/rotate/root", `{}`)
		check("after another rotation")
		f.Keep.Seal()
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("after it was sealed")
		f = f.restart(t, stolen.Again(), a.Again())
		f.OpenWithin(t, keep.HeadStart+time.Second)
		time.Sleep(2 * keep.ProbeInterval)
		check("after a restart")
		f.reload(a.Again())
		check("without its block")

		// The same key under another name, and another slot whose key has moved to it.
		renamed := stolen.Again()
		renamed.Called = "renamed"
		f.reload(a.Again(), renamed)
		if sl := f.Slot(t, "renamed"); sl.State != keep.SlotPending || sl.Class != keep.ClassRevoked {
			t.Errorf("renamed: %+v", sl)
		}
		moved := a.Again()
		f.reload(moved)
		moved.Turn("stolen-key")
		time.Sleep(keep.ProbeInterval)
		check("after a key moved to it")
		if sl := f.Slot(t, "a"); sl.Class != keep.ClassRevoked || sl.KeyID != "a-key" {
			t.Errorf("moved: %+v", sl)
		}
		f.refusesRotation(t, 400, `{}`, "revoke it too")
		f.Stop(t)
		f = f.restart(t, thief)
		time.Sleep(time.Minute)
		if !f.Status().Sealed {
			t.Fatal("the thief opened it")
		}

		f = f.restart(t, a.Again(), stolen.Again())
		f.OpenWithin(t, time.Second)
		if r := f.Must(t, 200, "POST", "sys/slots/stolen", ""); r.Get("data", "state") != "ready" {
			t.Error(r.Text)
		}
		f.reload(a.Again(), stolen.Again())
		if sl := f.Slot(t, "stolen"); sl.State != keep.SlotReady {
			t.Errorf("when it was asked for: %+v", sl)
		}
		f.opensAlone(t, stolen)
	})
}

// The recipients of the configuration are no exception.
func TestRevokedRecipientsAreNotWrappedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, id := servertest.NewSeal("a", 1), newIdentity(t)
		f, _ := peopled(t, a, 0, 0, id.Recipient().String())
		f.Must(t, 400, "POST", "sys/slots/recovery-age", "")
		f.Must(t, 200, "POST", "sys/rotate/root", `{"revoke":["recovery-age"]}`)
		check := func(when string) {
			t.Helper()
			synctest.Wait()
			if sl := f.Slot(t, keep.AgeSlot); sl.State != keep.SlotRevoked {
				t.Errorf("%s: %+v", when, sl)
			}
		}
		time.Sleep(2 * keep.ProbeInterval)
		check("after the hourly reconciliation")
		f.reload(a.Again())
		check("after a reload")
		f = f.restart(t, a.Again())
		f.OpenWithin(t, time.Second)
		time.Sleep(2 * keep.ProbeInterval)
		check("after a restart")
		f.Keep.Seal()
		if r := f.Call(t, "PUT", "sys/unseal", `{"identity":"`+id.String()+`"}`); r.Status != 400 {
			t.Errorf("the identity that was revoked: %s", r.Text)
		}
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Other people are not those that were revoked, who stay so.
		other := newIdentity(t)
		f.SetRecovery([]string{other.Recipient().String()}, false)
		f.reload(a.Again())
		servertest.Eventually(t, "the new recipients have their slot", func() bool {
			sl := f.Slot(t, keep.AgeSlot)
			return sl.State == keep.SlotRecovery && sl.KeyID == other.Recipient().String()
		})
		f.SetRecovery([]string{id.Recipient().String()}, false)
		f.reload(a.Again())
		time.Sleep(2 * keep.ProbeInterval)
		synctest.Wait()
		if names := fmt.Sprint(f.names()); strings.Contains(names, keep.NewAgeName) {
			t.Errorf("the recipients that were revoked have a slot again: %s", names)
		}
	})
}

// What was revoked before it had a slot gets none either.
func TestASealWithoutASlotIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := one(t, a)
		b.Tell(servertest.Fails("unreachable"))
		f.reload(a.Again(), b)
		f.Must(t, 200, "POST", "sys/rotate/root", `{"revoke":["b"]}`)
		b.Tell(nil)
		time.Sleep(2 * keep.ProbeInterval)
		if sl := f.Slot(t, "b"); sl.State != keep.SlotRevoked || b.Wrapped() == 0 {
			t.Errorf("%+v", sl)
		}
		f.refusesRotation(t, 404, `{"revoke":["nobody"]}`, "no slot named")
	})
}

// Whoever asks for a rotation and is gone, at whatever step: the keep is as it
// was or rotated, and opens.
func TestRotateRootIsCutOffAtEveryStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		path := filepath.Join(t.TempDir(), "keep.db")
		f := start(t, path, a, b)
		shares := f.initShares(t, 2, 2)
		var calls atomic.Int32 // the rounds ask, too
		var count int32
		var cut context.CancelFunc
		at := func(context.Context) error {
			if calls.Add(1) == count {
				cut()
			}
			return nil
		}
		synctest.Wait()
		first := f.Status().Fingerprint
		done := false
		for count = 1; !done; count++ { // until none of the calls is the one at which it is cut off
			synctest.Wait()
			calls.Store(0)
			slow := a.Again()
			slow.Tell(at)
			f.reload(b.Again())
			f.PutFirst(slow)
			var ctx context.Context
			ctx, cut = context.WithCancel(t.Context())
			req := httptest.NewRequestWithContext(ctx, "POST", "/v1/sys/rotate/root", strings.NewReader("{}"))
			req.Header.Set("X-Vault-Token", f.Root)
			w := httptest.NewRecorder()
			f.HTTP.ServeHTTP(w, req)
			now := f.Status().Fingerprint
			if (w.Code == 200) != (now != first) {
				t.Errorf("cut off at call %d: %d, root key %s, was %s", count, w.Code, now, first)
			}
			first, done = now, calls.Load() < count
			cut()
			slots, missing, err := f.Store().TrustedSlots()
			if err != nil || len(missing) > 0 || len(slots) != 3 {
				t.Fatalf("cut off at call %d: %d slots, missing %v, %v", count, len(slots), missing, err)
			}
			synctest.Wait()
		}
		if count < 3 {
			t.Errorf("%d calls", count)
		}
		f.Stop(t)
		for _, seal := range []*servertest.Seal{a, b} {
			again := start(t, path, seal.Again())
			again.OpenWithin(t, time.Second)
			again.Stop(t)
		}
		f = start(t, path)
		f.give(t, shares[0])
		if r := f.give(t, shares[1]); r.Get("sealed") != false {
			t.Error(r.Text)
		}
	})
}

// A stored slot is wrapped for whatever its state says: what is stored counts.
func TestRotateRootKeepsAStoredSlotThatIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := one(t, a)
		f.reload(a.Again(), b)
		for _, state := range []keep.SlotState{keep.SlotPending, keep.SlotFailed, keep.SlotWaiting, keep.SlotTrying} {
			f.Show(b, state)
			r := f.Must(t, 200, "POST", "sys/rotate/root", `{}`)
			if line(r.Get("data", "slots")) != "[a b]" {
				t.Errorf("%s: %s", state, r.Text)
			}
		}
		// Nor does it matter that the arrangement is out of date.
		f.Unstore(b)
		if r := f.Must(t, 200, "POST", "sys/rotate/root", `{}`); line(r.Get("data", "slots")) != "[a b]" {
			t.Error(r.Text)
		}
		f.opensAlone(t, b)
	})
}

// A slot that was added but did not open as it was stored is in the keyring, and
// the answer and the list say so.
func TestSlotAddThatFailsAtItsLastOpeningSaysWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := one(t, a)
		b.ByHand = true
		f.reload(a.Again(), b)
		var calls atomic.Int32 // the keep asks again in the background, too
		b.Tell(func(context.Context) error {
			if calls.Add(1) > 2 { // wrapped, opened, stored: and then it is away
				return servertest.Classed("unreachable")
			}
			return nil
		})
		if r := f.Must(t, 400, "POST", "sys/slots/b", ""); !strings.Contains(r.Errors(), "has its slot, but it could not be opened as it was stored: unreachable") {
			t.Error(r.Text)
		}
		sl := f.Slot(t, "b")
		if sl.State != keep.SlotFailed || sl.Class != "unreachable" || sl.KeyID != "b-key" || strings.Contains(sl.Error, "no slot in the store yet") {
			t.Errorf("%+v", sl)
		}
		f.refusesRotation(t, 400, `{}`, `slot "b": unreachable`) // and not dropped in silence
		b.Tell(nil)
		time.Sleep(keep.RetryMost)
		synctest.Wait()
		if sl := f.Slot(t, "b"); sl.State != keep.SlotReady {
			t.Errorf("when its service is back: %+v", sl)
		}
		f.opensAlone(t, b)
	})
}

// A slot that is revoked is refused where the command line makes slots, too.
func TestTheStoreRefusesARevokedSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := one(t, a)
		f.reload(a.Again(), b)
		f.Must(t, 200, "POST", "sys/rotate/root", `{"revoke":["b"]}`)
		root, generation, err := f.Store().RootKey()
		if err != nil {
			t.Fatal(err)
		}
		slot, err := f.WrapRoot(t.Context(), b, root, generation)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Store().PutSlot(t.Context(), slot); !errors.Is(err, storage.ErrRevoked) {
			t.Errorf("it was taken: %v", err)
		}
	})
}

// What cannot be recorded is not done: shares that nobody got change nothing.
func TestRotateRootIsUnauditedAtEveryStep(t *testing.T) {
	d, stop, collect := servertest.Collector(t)
	a := servertest.NewSeal("a", 1)
	f := startAudited(t, filepath.Join(t.TempDir(), "keep.db"), []audit.Device{d}, a)
	f.initShares(t, 0, 0)
	first := f.Status().Fingerprint
	withheld := func(body string) {
		t.Helper()
		restore := f.Before("sys/rotate/root", api.Write, func(*api.Request) { stop() }) // the collector is gone from here on
		f.Must(t, 500, "POST", "sys/rotate/root", body)
		restore()
		collect()
		servertest.Eventually(t, "the device works again", func() bool { return f.Call(t, "GET", "secret/config", "").Status == 200 })
	}
	withheld(`{"revoke":["a"],"secret_shares":2,"secret_threshold":2}`)
	if f.Status().Fingerprint != first || f.Slot(t, "a").State == keep.SlotRevoked {
		t.Errorf("%+v", f.Status())
	}
	r := f.Must(t, 200, "POST", "sys/rotate/root", `{"revoke":["a"],"secret_shares":2,"secret_threshold":2}`)
	shares := texts(r.Get("data", "keys"))
	body := `{"revoke":["a"],"nonce":"` + r.Get("data", "nonce").(string) + `","keys":` + jsonList(shares...) + `}`
	withheld(body)
	if f.Status().Fingerprint != first || f.Slot(t, "a").State == keep.SlotRevoked {
		t.Errorf("%+v", f.Status())
	}
	f.Must(t, 200, "POST", "sys/rotate/root", body)
	if f.Status().Fingerprint == first {
		t.Error("it was not carried out")
	}
	f.Stop(t)
	again := start(t, f.Path, a.Again())
	again.give(t, shares[0])
	if r := again.give(t, shares[1]); r.Get("sealed") != false {
		t.Error(r.Text)
	}
	again.Stop(t)
}
