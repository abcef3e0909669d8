package server

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
	"github.com/sealkeep/sealkeep/storage"
)

// peopled runs a keep in a bubble with one seal and, if n is not 0, n shares of
// which k open.
func peopled(t *testing.T, a *fakeSeal, n, k int, recipients ...string) (f *fixture, shares []string) {
	t.Helper()
	f = start(t, filepath.Join(t.TempDir(), "keep.db"), a)
	f.SetRecovery(recipients, false)
	shares = f.initShares(t, n, k)
	f.must(t, 200, "POST", "secret/data/kept", `{"data":{"value":"here"}}`)
	synctest.Wait()
	return f, shares
}

// restart runs the keep of f again with these seals.
func (f *fixture) restart(t *testing.T, seals ...*fakeSeal) *fixture {
	t.Helper()
	f.stop(t)
	var all []Seal
	for _, seal := range seals {
		all = append(all, seal)
	}
	f.mu.Lock()
	recipients := f.recipients
	f.mu.Unlock()
	again := start(t, f.path, all...)
	again.SetRecovery(recipients, false)
	again.root = f.root
	return again
}

// refusesRotation asks for a rotation of the root key that must change nothing.
func (f *fixture) refusesRotation(t *testing.T, status int, body, want string) {
	t.Helper()
	before, slots := f.Status().Fingerprint, fmt.Sprint(stateNames(f.Status()))
	if r := f.must(t, status, "POST", "sys/rotate/root", body); !strings.Contains(r.errors(), want) {
		t.Errorf("%s: %s, want %q", body, r.text, want)
	}
	if now := f.Status().Fingerprint; now != before {
		t.Fatalf("%s: changed all the same", body)
	}
	if now := fmt.Sprint(stateNames(f.Status())); now != slots {
		t.Errorf("%s: the slots are %s, and were %s", body, now, slots)
	}
}

func stateNames(st Status) (out []string) {
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
		a, id := newSeal("a", 1), newIdentity(t)
		f, shares := peopled(t, a, 3, 2, id.Recipient().String())
		a.tell(hangs) // the key service was stopped
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

		r := f.must(t, 200, "POST", "sys/rotate/root", `{"drop":["a"],"keys":`+jsonList(shares[1:]...)+`}`)
		if line(r.get("data", "complete"), r.get("data", "proved_by"), r.get("data", "slots")) != "true recovery-shares [recovery-age recovery-shares]" ||
			!strings.Contains(r.text, "no service opens this keep at the next start") || !strings.Contains(r.text, "operator storage compact") || !strings.Contains(r.text, "replace those") {
			t.Error(r.text)
		}
		f = f.restart(t, a)
		f.must(t, 400, "PUT", "sys/unseal", `{"identity":"`+newIdentity(t).String()+`"}`)
		f.must(t, 200, "PUT", "sys/unseal", `{"identity":"`+id.String()+`"}`)
		f.must(t, 200, "GET", "secret/data/kept", "")
		if sl := f.slot(t, "a"); sl.State != SlotPending {
			t.Errorf("what was dropped: %+v", sl)
		}
		a.tell(nil) // its service is back, and so is its slot
		time.Sleep(retryMost)
		synctest.Wait()
		if sl := f.slot(t, "a"); sl.State != SlotReady || sl.Generation != 2 {
			t.Errorf("what was dropped is back: %+v", sl)
		}
		f.opensAlone(t, a)
	})
}

// The proof may be an identity, or a service that is left.
func TestRotateRootIsProvedByAnIdentityOrAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, id := newSeal("a", 1), newSeal("b", 2), newIdentity(t)
		f, _ := peopled(t, a, 0, 0, id.Recipient().String())
		f.reload(a.again(), b)
		off := b.again()
		off.disabled = true
		f.reload(a.again(), off)
		f.refusesRotation(t, 428, `{"drop":["a"]}`, "no enabled service slot") // a disabled seal proves nothing
		r := f.must(t, 200, "POST", "sys/rotate/root", `{"drop":["a"],"identity":"`+id.String()+`"}`)
		if line(r.get("data", "proved_by"), r.get("data", "slots")) != "recovery-age [b recovery-age]" {
			t.Error(r.text)
		}
		f.reload(a.again(), b.again())
		r = f.must(t, 200, "POST", "sys/rotate/root", `{"drop":["a"]}`)
		if r.get("data", "proved_by") != "b" || strings.Contains(r.text, "no service opens") {
			t.Error(r.text)
		}
		f.opensAlone(t, b)
	})
}

// Where nobody can prove anything, shares are made first and given back; until
// then nothing has changed, whoever is cut off or killed.
func TestRotateRootMakesSharesWhereNothingElseOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSeal("a", 1)
		f, _ := peopled(t, a, 0, 0)
		f.refusesRotation(t, 428, `{"revoke":["a"]}`, "secret_shares")
		f.refusesRotation(t, 400, `{"revoke":["a"],"secret_shares":2,"secret_threshold":3}`, "secret_threshold")
		shares := func(f *fixture) (nonce string, shares []string) {
			t.Helper()
			r := f.must(t, 200, "POST", "sys/rotate/root", `{"revoke":["a"],"secret_shares":3,"secret_threshold":2}`)
			if r.get("data", "complete") != false || !strings.Contains(r.text, "nothing has changed yet") {
				t.Error(r.text)
			}
			return r.get("data", "nonce").(string), texts(r.get("data", "keys_base64"))
		}
		body := func(nonce string, keys ...string) string {
			return `{"revoke":["a"],"nonce":"` + nonce + `","keys":` + jsonList(keys...) + `}`
		}
		nonce, lost := shares(f)
		f = f.restart(t, a.again()) // killed before they came back
		f.openWithin(t, time.Second)
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
		r := f.must(t, 200, "POST", "sys/rotate/root", body(nonce, made[0], made[2]))
		if line(r.get("data", "proved_by"), r.get("data", "slots")) != "recovery-shares [recovery-shares]" || !strings.Contains(r.text, "no service opens this keep at the next start") {
			t.Error(r.text)
		}
		f.refusesRotation(t, 400, body(nonce, made[:2]...), "no shares with this nonce") // used up
		f = f.restart(t, a.again())
		time.Sleep(time.Minute)
		if !f.Status().Sealed {
			t.Fatal("what was revoked opens the keep")
		}
		f.give(t, made[1])
		f.give(t, made[2])
		f.must(t, 200, "GET", "secret/data/kept", "")
		synctest.Wait()
		if sl := f.slot(t, "a"); sl.State != SlotRevoked {
			t.Errorf("%+v", sl)
		}
	})
}

// Nobody has the old shares any more: they are dropped by name, and new ones made.
func TestRotateRootReplacesSharesThatAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSeal("a", 1)
		f, old := peopled(t, a, 3, 2)
		a.tell(fails("key_disabled"))
		r := f.must(t, 200, "POST", "sys/rotate/root", `{"drop":["a","recovery-shares"],"secret_shares":1,"secret_threshold":1}`)
		share := texts(r.get("data", "keys"))[0]
		f.must(t, 200, "POST", "sys/rotate/root", `{"drop":["a","recovery-shares"],"nonce":"`+r.get("data", "nonce").(string)+`","keys":["`+share+`"]}`)
		f = f.restart(t, a)
		if r := f.give(t, old[0]); r.status != 400 {
			t.Errorf("an old share: %s", r.text)
		}
		if r := f.give(t, share); r.get("sealed") != false {
			t.Errorf("the new share: %s", r.text)
		}
	})
}

// No path wraps the root key for what was revoked, but `slot add NAME`.
func TestWhatWasRevokedIsNotWrappedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, stolen := newSeal("a", 1), newSeal("stolen", 2)
		f := one(t, a)
		f.reload(a.again(), stolen)
		thief := stolen.again() // has the use of the key for ever
		r := f.must(t, 200, "POST", "sys/rotate/root", `{"revoke":["stolen"]}`)
		if line(r.get("data", "proved_by"), r.get("data", "slots")) != "a [a]" || !strings.Contains(r.text, "slot add stolen") {
			t.Error(r.text)
		}
		check := func(when string) {
			t.Helper()
			synctest.Wait()
			if sl := f.slot(t, "stolen"); sl.State != SlotRevoked || !strings.Contains(sl.Error, "stolen-key") || !strings.Contains(sl.Hint, "slot add stolen") {
				t.Errorf("%s: %+v", when, sl)
			}
			slots, err := f.store.Slots()
			if err != nil || len(slots) != 1 || slots[0].Name != "a" {
				t.Fatalf("%s: in the file are %+v, %v", when, slots, err)
			}
		}
		check("at once")
		time.Sleep(3 * probeInterval)
		check("after the hourly reconciliation")
		f.reload(a.again(), stolen.again())
		check("after a reload")
		f.must(t, 200, "POST", "sys/rotate/root", `{}`)
		check("after another rotation")
		f.Server.Seal()
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("after it was sealed")
		f = f.restart(t, stolen.again(), a.again())
		f.openWithin(t, headStart+time.Second)
		time.Sleep(2 * probeInterval)
		check("after a restart")
		f.reload(a.again())
		check("without its block")

		// The same key under another name, and another slot whose key has moved to it.
		renamed := stolen.again()
		renamed.name = "renamed"
		f.reload(a.again(), renamed)
		if sl := f.slot(t, "renamed"); sl.State != SlotPending || sl.Class != classRevoked {
			t.Errorf("renamed: %+v", sl)
		}
		moved := a.again()
		f.reload(moved)
		moved.turn("stolen-key")
		time.Sleep(probeInterval)
		check("after a key moved to it")
		if sl := f.slot(t, "a"); sl.Class != classRevoked || sl.KeyID != "a-key" {
			t.Errorf("moved: %+v", sl)
		}
		f.refusesRotation(t, 400, `{}`, "revoke it too")
		f.stop(t)
		f = f.restart(t, thief)
		time.Sleep(time.Minute)
		if !f.Status().Sealed {
			t.Fatal("the thief opened it")
		}

		f = f.restart(t, a.again(), stolen.again())
		f.openWithin(t, time.Second)
		if r := f.must(t, 200, "POST", "sys/slots/stolen", ""); r.get("data", "state") != "ready" {
			t.Error(r.text)
		}
		f.reload(a.again(), stolen.again())
		if sl := f.slot(t, "stolen"); sl.State != SlotReady {
			t.Errorf("when it was asked for: %+v", sl)
		}
		f.opensAlone(t, stolen)
	})
}

// The recipients of the configuration are no exception.
func TestRevokedRecipientsAreNotWrappedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, id := newSeal("a", 1), newIdentity(t)
		f, _ := peopled(t, a, 0, 0, id.Recipient().String())
		f.must(t, 400, "POST", "sys/slots/recovery-age", "")
		f.must(t, 200, "POST", "sys/rotate/root", `{"revoke":["recovery-age"]}`)
		check := func(when string) {
			t.Helper()
			synctest.Wait()
			if sl := f.slot(t, ageSlot); sl.State != SlotRevoked {
				t.Errorf("%s: %+v", when, sl)
			}
		}
		time.Sleep(2 * probeInterval)
		check("after the hourly reconciliation")
		f.reload(a.again())
		check("after a reload")
		f = f.restart(t, a.again())
		f.openWithin(t, time.Second)
		time.Sleep(2 * probeInterval)
		check("after a restart")
		f.Server.Seal()
		if r := f.call(t, "PUT", "sys/unseal", `{"identity":"`+id.String()+`"}`); r.status != 400 {
			t.Errorf("the identity that was revoked: %s", r.text)
		}
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Other people are not those that were revoked, who stay so.
		other := newIdentity(t)
		f.SetRecovery([]string{other.Recipient().String()}, false)
		f.reload(a.again())
		eventually(t, "the new recipients have their slot", func() bool {
			sl := f.slot(t, ageSlot)
			return sl.State == SlotRecovery && sl.KeyID == other.Recipient().String()
		})
		f.SetRecovery([]string{id.Recipient().String()}, false)
		f.reload(a.again())
		time.Sleep(2 * probeInterval)
		synctest.Wait()
		if names := fmt.Sprint(f.names()); strings.Contains(names, newAgeName) {
			t.Errorf("the recipients that were revoked have a slot again: %s", names)
		}
	})
}

// What was revoked before it had a slot gets none either.
func TestASealWithoutASlotIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		f := one(t, a)
		b.tell(fails("unreachable"))
		f.reload(a.again(), b)
		f.must(t, 200, "POST", "sys/rotate/root", `{"revoke":["b"]}`)
		b.tell(nil)
		time.Sleep(2 * probeInterval)
		if sl := f.slot(t, "b"); sl.State != SlotRevoked || b.wrapped() == 0 {
			t.Errorf("%+v", sl)
		}
		f.refusesRotation(t, 404, `{"revoke":["nobody"]}`, "no slot named")
	})
}

// Whoever asks for a rotation and is gone, at whatever step: the keep is as it
// was or rotated, and opens.
func TestRotateRootIsCutOffAtEveryStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
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
			slow := a.again()
			slow.tell(at)
			f.reload(b.again())
			f.mu.Lock()
			f.seals.all = append([]Seal{slow}, f.seals.all...)
			f.arrangeLocked()
			f.mu.Unlock()
			var ctx context.Context
			ctx, cut = context.WithCancel(t.Context())
			req := httptest.NewRequestWithContext(ctx, "POST", "/v1/sys/rotate/root", strings.NewReader("{}"))
			req.Header.Set("X-Vault-Token", f.root)
			w := httptest.NewRecorder()
			f.http.ServeHTTP(w, req)
			now := f.Status().Fingerprint
			if (w.Code == 200) != (now != first) {
				t.Errorf("cut off at call %d: %d, root key %s, was %s", count, w.Code, now, first)
			}
			first, done = now, calls.Load() < count
			cut()
			slots, missing, err := f.store.TrustedSlots()
			if err != nil || len(missing) > 0 || len(slots) != 3 {
				t.Fatalf("cut off at call %d: %d slots, missing %v, %v", count, len(slots), missing, err)
			}
			synctest.Wait()
		}
		if count < 3 {
			t.Errorf("%d calls", count)
		}
		f.stop(t)
		for _, seal := range []*fakeSeal{a, b} {
			again := start(t, path, seal.again())
			again.openWithin(t, time.Second)
			again.stop(t)
		}
		f = start(t, path)
		f.give(t, shares[0])
		if r := f.give(t, shares[1]); r.get("sealed") != false {
			t.Error(r.text)
		}
	})
}

// A stored slot is wrapped for whatever its state says: what is stored counts.
func TestRotateRootKeepsAStoredSlotThatIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		f := one(t, a)
		f.reload(a.again(), b)
		for _, state := range []SlotState{SlotPending, SlotFailed, SlotWaiting, SlotTrying} {
			f.mu.Lock()
			f.slotOfLocked(b).State = state
			f.mu.Unlock()
			r := f.must(t, 200, "POST", "sys/rotate/root", `{}`)
			if line(r.get("data", "slots")) != "[a b]" {
				t.Errorf("%s: %s", state, r.text)
			}
		}
		// Nor does it matter that the arrangement is out of date.
		f.mu.Lock()
		for i, sl := range f.slots {
			if sl.seal == b { // what is stored of a slot does not change: another takes its place
				old := *sl
				old.stored = false
				f.slots[i] = &old
			}
		}
		f.mu.Unlock()
		if r := f.must(t, 200, "POST", "sys/rotate/root", `{}`); line(r.get("data", "slots")) != "[a b]" {
			t.Error(r.text)
		}
		f.opensAlone(t, b)
	})
}

// A slot that was added but did not open as it was stored is in the keyring, and
// the answer and the list say so.
func TestSlotAddThatFailsAtItsLastOpeningSaysWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		f := one(t, a)
		b.manual = true
		f.reload(a.again(), b)
		var calls atomic.Int32 // the keep asks again in the background, too
		b.tell(func(context.Context) error {
			if calls.Add(1) > 2 { // wrapped, opened, stored: and then it is away
				return classed("unreachable")
			}
			return nil
		})
		if r := f.must(t, 400, "POST", "sys/slots/b", ""); !strings.Contains(r.errors(), "has its slot, but it could not be opened as it was stored: unreachable") {
			t.Error(r.text)
		}
		sl := f.slot(t, "b")
		if sl.State != SlotFailed || sl.Class != "unreachable" || sl.KeyID != "b-key" || strings.Contains(sl.Error, "no slot in the store yet") {
			t.Errorf("%+v", sl)
		}
		f.refusesRotation(t, 400, `{}`, `slot "b": unreachable`) // and not dropped in silence
		b.tell(nil)
		time.Sleep(retryMost)
		synctest.Wait()
		if sl := f.slot(t, "b"); sl.State != SlotReady {
			t.Errorf("when its service is back: %+v", sl)
		}
		f.opensAlone(t, b)
	})
}

// A slot that is revoked is refused where the command line makes slots, too.
func TestTheStoreRefusesARevokedSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		f := one(t, a)
		f.reload(a.again(), b)
		f.must(t, 200, "POST", "sys/rotate/root", `{"revoke":["b"]}`)
		root, generation, err := f.store.RootKey()
		if err != nil {
			t.Fatal(err)
		}
		slot, err := f.wrapRoot(t.Context(), b, root, f.store.UUID(), generation)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.store.PutSlot(t.Context(), slot); !errors.Is(err, storage.ErrRevoked) {
			t.Errorf("it was taken: %v", err)
		}
	})
}

// What cannot be recorded is not done: shares that nobody got change nothing.
func TestRotateRootIsUnauditedAtEveryStep(t *testing.T) {
	d, stop, collect := collector(t)
	a := newSeal("a", 1)
	f := startAudited(t, filepath.Join(t.TempDir(), "keep.db"), []audit.Device{d}, a)
	f.initShares(t, 0, 0)
	first := f.Status().Fingerprint
	route, _ := f.tables.system.find("sys/rotate/root")
	withheld := func(body string) {
		t.Helper()
		restore := route.interpose(api.Write, func(*request) { stop() }) // the collector is gone from here on
		f.must(t, 500, "POST", "sys/rotate/root", body)
		restore()
		collect()
		eventually(t, "the device works again", func() bool { return f.call(t, "GET", "secret/config", "").status == 200 })
	}
	withheld(`{"revoke":["a"],"secret_shares":2,"secret_threshold":2}`)
	if f.Status().Fingerprint != first || f.slot(t, "a").State == SlotRevoked {
		t.Errorf("%+v", f.Status())
	}
	r := f.must(t, 200, "POST", "sys/rotate/root", `{"revoke":["a"],"secret_shares":2,"secret_threshold":2}`)
	shares := texts(r.get("data", "keys"))
	body := `{"revoke":["a"],"nonce":"` + r.get("data", "nonce").(string) + `","keys":` + jsonList(shares...) + `}`
	withheld(body)
	if f.Status().Fingerprint != first || f.slot(t, "a").State == SlotRevoked {
		t.Errorf("%+v", f.Status())
	}
	f.must(t, 200, "POST", "sys/rotate/root", body)
	if f.Status().Fingerprint == first {
		t.Error("it was not carried out")
	}
	f.stop(t)
	again := start(t, f.path, a.again())
	again.give(t, shares[0])
	if r := again.give(t, shares[1]); r.get("sealed") != false {
		t.Error(r.text)
	}
	again.stop(t)
}
