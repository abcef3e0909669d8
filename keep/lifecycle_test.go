package keep_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// made is a store that the given seals have initialized.
func made(t *testing.T, seals ...*servertest.Seal) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keep.db")
	var all []keep.Seal
	for _, s := range seals {
		all = append(all, s.Again())
	}
	f := start(t, path, all...)
	f.Initialize(t)
	f.Stop(t)
	return path
}

func TestOpensAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		path := made(t, a, b)
		f := start(t, path, b, a)
		f.OpenWithin(t, keep.HeadStart/2)
		time.Sleep(keep.HeadStart)
		synctest.Wait()
		if calls, _, _ := b.Count(); calls != 1 { // the look that follows the opening
			t.Errorf("the second slot was tried %d times though the first one opened at once", calls)
		}
		if calls, _, _ := a.Count(); calls != 2 {
			t.Errorf("the first slot was tried %d times", calls)
		}
		if got := f.Slot(t, "a"); got.State != keep.SlotOpened || got.KeyID != "a-key" || got.Attempts != 2 || !got.Opener {
			t.Errorf("first slot: %+v", got)
		}
		if got := f.Slot(t, "b"); got.State != keep.SlotReady {
			t.Errorf("second slot: %+v", got)
		}
		if st := f.Status(); st.Fingerprint == "" || !st.Initialized {
			t.Errorf("status: %+v", st)
		}
	})
}

func TestSecondSlotWins(t *testing.T) {
	for name, do := range map[string]func(context.Context) error{"fails": servertest.Fails("key_disabled"), "hangs": servertest.Hangs} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
				path := made(t, a, b)
				a.Tell(do)
				f := start(t, path, a, b)
				if d := f.OpenWithin(t, time.Second); d < keep.HeadStart {
					t.Errorf("the second slot opened after %v: no head start", d)
				}
				synctest.Wait()
				if got := f.Slot(t, "b"); got.State != keep.SlotOpened {
					t.Errorf("second slot: %+v", got)
				}
				calls, most, _ := a.Count()
				time.Sleep(keep.AttemptTimeout) // the race is over: there is the look that follows, and no more
				synctest.Wait()
				if now, _, _ := a.Count(); now != calls || most > 1 {
					t.Errorf("the first slot was tried %d times, then %d, %d at once", calls, now, most)
				}
			})
		})
	}
}

// However long a key service was away, the keep opens within 5 s of its return.
func TestOpensWhenTheServiceReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		path := made(t, a, b)
		for _, away := range []time.Duration{700 * time.Millisecond, 10 * time.Second, 61 * time.Second, time.Hour} {
			for _, do := range []func(context.Context) error{servertest.Fails("unreachable"), servertest.Hangs} {
				first, second := a.Again(), b.Again()
				first.Tell(do)
				second.Tell(servertest.Fails("auth_denied"))
				f := start(t, path, first, second)
				time.Sleep(away)
				if !f.Status().Sealed {
					t.Fatal("open without a key")
				}
				first.Tell(nil)
				f.OpenWithin(t, 5*time.Second)
				if _, most, _ := first.Count(); most != 1 {
					t.Errorf("%d attempts at once", most)
				}
				f.Stop(t)
			}
		}
	})
}

// From the start of one attempt to that of the next pass at most 4 s.
func TestAttemptsAreEvenAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, do := range []func(context.Context) error{servertest.Fails("throttled"), servertest.Hangs} {
			a := servertest.NewSeal("a", 1)
			path := made(t, a)
			var starts []time.Time
			a.Tell(func(ctx context.Context) error {
				starts = append(starts, time.Now())
				return do(ctx)
			})
			f := start(t, path, a)
			time.Sleep(10 * time.Minute)
			f.Stop(t)
			if n := len(starts); n < 150 || n > 210 {
				t.Errorf("%d attempts in ten minutes", n)
			}
			var gaps []time.Duration
			for i := 1; i < len(starts); i++ {
				gaps = append(gaps, starts[i].Sub(starts[i-1]))
			}
			if longest := slices.Max(gaps); longest > 4*time.Second {
				t.Errorf("%v between two attempts", longest)
			}
			if slices.Min(gaps[10:]) == slices.Max(gaps[10:]) {
				t.Errorf("no jitter: every gap is %v", gaps[10])
			}
		}
	})
}

func TestReasonsAreShownAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		path := made(t, a)
		a.Tell(servertest.Fails("auth_denied"))
		f := start(t, path, a)
		time.Sleep(50 * time.Second)
		got := f.Slot(t, "a")
		if got.State != keep.SlotFailed || got.Class != "auth_denied" || got.Hint == "" || !strings.Contains(got.Error, "auth_denied") ||
			got.Attempts < 10 || got.LastAttempt.IsZero() || !got.NextAttempt.After(got.LastAttempt) || got.FailedSince.IsZero() {
			t.Errorf("slot: %+v", got)
		}
		logged := func(class string) int { return strings.Count(f.Log.String(), "class="+class) }
		if n := logged("auth_denied"); n != 1 {
			t.Errorf("logged %d times in 50 s", n)
		}
		time.Sleep(time.Minute)
		if n := logged("auth_denied"); n != 2 {
			t.Errorf("logged %d times in 110 s", n)
		}
		a.Tell(servertest.Fails("key_disabled"))
		time.Sleep(5 * time.Second)
		if n := logged("key_disabled"); n != 1 {
			t.Errorf("the new reason was logged %d times", n)
		}
		a.Tell(nil)
		f.OpenWithin(t, 5*time.Second)
		if got := f.Slot(t, "a"); got.Class != "" || got.Error != "" || !got.FailedSince.IsZero() {
			t.Errorf("slot after it opened: %+v", got)
		}
		if !strings.Contains(f.Log.String(), "msg=unsealed") {
			t.Error("opening was not logged")
		}
	})
}

// A slot that gives a key which is not this store's is told apart and loses.
func TestWrongRootKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		path := made(t, a, b)
		a.Lies = true
		f := start(t, path, a, b)
		f.OpenWithin(t, time.Second)
		if got := f.Slot(t, "a"); got.State != keep.SlotFailed || got.Class != "blob_mismatch" {
			t.Errorf("first slot: %+v", got)
		}
	})
}

func TestSealHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		path := made(t, a)
		f := start(t, path, a)
		f.OpenWithin(t, time.Second)
		f.Keep.Seal()
		time.Sleep(time.Hour)
		f.SetSeals([]keep.Seal{a.Again()}) // a reload does not lift the hold
		time.Sleep(time.Hour)
		if st := f.Status(); !st.Sealed || !st.Held || st.Fingerprint != "" {
			t.Fatalf("status: %+v", st)
		}
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := f.Status(); st.Sealed || st.Held {
			t.Fatalf("status after unseal: %+v", st)
		}
		f.Keep.Seal()
		f.Stop(t)
		again := start(t, path, a.Again())
		again.OpenWithin(t, time.Second) // a restart lifts it
	})
}

// Unseal returns when all slots have been tried, not after its five seconds.
func TestUnsealWaitsForTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		path := made(t, a, b)
		a.Tell(servertest.Fails("dns"))
		b.Tell(servertest.Fails("tls"))
		f := start(t, path, a, b)
		time.Sleep(time.Minute)
		began := time.Now()
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v", d)
		}
		b.Tell(servertest.Hangs)
		began = time.Now()
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > keep.UnsealWait {
			t.Errorf("with a slot that hangs it took %v", d)
		}
		a.Tell(nil)
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f.Status().Sealed {
			t.Error("still sealed")
		}
		if _, most, _ := b.Count(); most != 1 {
			t.Errorf("%d attempts of one slot at once", most)
		}
	})
}

// Anyone can ask a sealed keep to unseal: that must neither press the key service
// nor keep a slow one from answering.
func TestUnsealOftenIsHarmless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		path := made(t, a)
		a.Tell(servertest.Fails("auth_denied"))
		f := start(t, path, a)
		time.Sleep(time.Minute)
		stop := make(chan struct{})
		defer close(stop)
		for range 50 {
			go func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
						f.Unseal(context.Background())
					}
				}
			}()
		}
		before, _, _ := a.Count()
		time.Sleep(10 * time.Second)
		if after, _, _ := a.Count(); after-before < 5 || after-before > 15 {
			t.Errorf("%d attempts in ten seconds", after-before)
		}
		a.Tell(func(context.Context) error { time.Sleep(2500 * time.Millisecond); return nil })
		f.OpenWithin(t, 8*time.Second)
	})
}

func TestReloadRetriesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		path := made(t, a)
		a.Tell(servertest.Fails("credentials_expired"))
		f := start(t, path, a)
		time.Sleep(10 * time.Minute)
		b := a.Again()
		f.SetSeals([]keep.Seal{b})
		synctest.Wait()
		if f.Status().Sealed {
			t.Errorf("still sealed: %+v", f.Status().Slots)
		}
		if _, _, closed := a.Count(); closed != 1 {
			t.Errorf("the old seal was closed %d times", closed)
		}
		f.Stop(t)
		if _, _, closed := b.Count(); closed != 1 {
			t.Errorf("the new seal was closed %d times", closed)
		}
		if strings.Contains(f.Log.String(), "call under way") {
			t.Error(f.Log)
		}
	})
}

// A seal that ignores its context delays no other slot, and is never asked twice
// at once.
func TestStubbornSeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		path := made(t, a, b)
		release := make(chan struct{})
		a.Tell(func(context.Context) error { <-release; return nil })
		b.Tell(servertest.Fails("dns"))
		f := start(t, path, a, b)
		time.Sleep(20 * time.Second)
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Tell(nil)
		f.OpenWithin(t, 5*time.Second)
		if calls, most, _ := a.Count(); calls != 1 || most != 1 {
			t.Errorf("%d calls, %d at once", calls, most)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Server.Close(ctx); err == nil {
			t.Error("Close returned before the seal did")
		}
		close(release) // it comes with the right key, too late
		synctest.Wait()
		if _, _, closed := a.Count(); closed != 1 {
			t.Errorf("closed %d times", closed)
		}
	})
}

func TestSlotsAndSealsThatDoNotMatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		path := made(t, a, b)
		c := servertest.NewSeal("c", 1)
		b.Tell(servertest.Fails("key_not_found"))
		f := start(t, path, c, b)
		time.Sleep(time.Minute)
		if got := f.Slot(t, "a"); got.State != keep.SlotOrphaned || got.Error == "" || got.Attempts != 0 {
			t.Errorf("slot without a seal: %+v", got)
		}
		if got := f.Slot(t, "c"); got.State != keep.SlotPending || got.Attempts != 0 {
			t.Errorf("seal without a slot: %+v", got)
		}
		if calls, _, _ := c.Count(); calls != 0 {
			t.Errorf("a seal without a slot was asked %d times", calls)
		}
		f.SetSeals(nil)
		if got := f.Slot(t, "b"); got.State != keep.SlotOrphaned {
			t.Errorf("slot without a seal: %+v", got)
		}
		if !strings.Contains(f.Log.String(), "no slot of the store has a configured seal") {
			t.Error("it was not logged that nothing can open the keep")
		}
		if err := f.Unseal(t.Context()); err != nil { // returns though there is nothing to try
			t.Fatal(err)
		}
	})
}

// A slot that somebody wrote into the file is not used, and reported.
func TestForgedSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 2)
		path := made(t, a)
		forger := servertest.NewSeal("forged", 1)
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			slot := storage.Slot{Name: "forged", Type: "fake", RootGeneration: 1, Blob: forger.AEAD.Seal(nil, nil, storage.NewRootKey(), nil)}
			record, err := json.Marshal(slot)
			if err != nil {
				return err
			}
			return tx.Bucket([]byte("slots")).Put([]byte("forged"), append([]byte{1}, record...))
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		f := start(t, path, a)
		f.OpenWithin(t, time.Second)
		if got := f.Slot(t, "forged"); got.State != keep.SlotQuarantined {
			t.Errorf("%+v", got)
		}
		if r := f.Must(t, 200, "GET", "sys/seal-status", ""); r.Get("warnings") == nil {
			t.Errorf("seal-status does not warn: %s", r.Text)
		}
		if !strings.Contains(f.Log.String(), "slot=forged") {
			t.Error("not logged")
		}
	})
}

// The slot of a disabled seal opens the keep when nothing else does.
func TestDisabledSealIsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		path := made(t, a, b)
		a.Off = true
		f := start(t, path, a, b)
		f.OpenWithin(t, time.Second)
		synctest.Wait()
		if sl := f.Slot(t, "b"); !sl.Opener || f.Slot(t, "a").State != keep.SlotStandby {
			t.Errorf("the disabled seal was asked first: %+v", f.Status().Slots)
		}
		f.Stop(t)
		a2, b2 := a.Again(), b.Again()
		a2.Off = true
		b2.Tell(servertest.Hangs)
		again := start(t, path, a2, b2)
		if d := again.OpenWithin(t, 10*time.Second); d < keep.AttemptTimeout {
			t.Errorf("the disabled seal opened after %v, before the other one had a chance", d)
		}
	})
}

func TestChangedReportsEveryState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		path := made(t, a)
		a.Tell(func(context.Context) error {
			time.Sleep(time.Millisecond) // New has returned by then
			return servertest.Classed("dns")
		})
		var seen []string
		k := keep.New(keep.Config{Path: path, Seals: []keep.Seal{a}, Changed: func(st keep.Status) {
			word := "unsealed"
			if st.Sealed {
				word = "sealed " + st.Slots[0].Class
			}
			if len(seen) == 0 || seen[len(seen)-1] != word {
				seen = append(seen, word)
			}
		}})
		types, err := mount.NewTypes()
		if err == nil {
			err = k.Open(types)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		a.Tell(nil)
		time.Sleep(5 * time.Second)
		k.Seal()
		if err := k.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{"sealed ", "sealed dns", "unsealed", "sealed "}
		if !slices.Equal(seen, want) {
			t.Errorf("states %q, want %q", seen, want)
		}
	})
}

// A keep serves for as long as it likes without its key service.
func TestServesWithoutKeyService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		path := filepath.Join(t.TempDir(), "keep.db")
		f := start(t, path, a)
		f.Initialize(t)
		a.Tell(servertest.Hangs)
		time.Sleep(24 * time.Hour)
		f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
		f.Must(t, 204, "POST", "sys/rotate", "")
		f.Must(t, 200, "GET", "secret/data/a", "")
		if sl := f.Slot(t, "a"); sl.Class != "unreachable" || f.Status().Sealed {
			t.Errorf("after a day: %+v", sl)
		}
	})
}

// While the keep is open its slots are opened again now and then: what fails is
// shown before the next boot, and a reload has the new seals tried at once.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keep.db")
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := start(t, path, a, b)
		f.Initialize(t)
		time.Sleep(time.Second)
		synctest.Wait()
		for _, name := range []string{"a", "b"} {
			if sl := f.Slot(t, name); sl.State != keep.SlotReady || sl.Attempts != 1 || sl.LastOpened.IsZero() {
				t.Errorf("after the first probe: %+v", sl)
			}
		}
		b.Tell(servertest.Fails("key_disabled"))
		time.Sleep(keep.ProbeInterval)
		synctest.Wait()
		if sl := f.Slot(t, "b"); sl.State != keep.SlotFailed || sl.Class != "key_disabled" || sl.Hint == "" || f.Status().Sealed {
			t.Errorf("a disabled key: %+v", sl)
		}
		if !strings.Contains(f.Log.String(), "class=key_disabled") {
			t.Error("the log does not say so")
		}
		b.Tell(nil)
		time.Sleep(keep.RetryMost + keep.AttemptTimeout)
		synctest.Wait()
		if sl := f.Slot(t, "b"); sl.State != keep.SlotReady || !sl.FailedSince.IsZero() || !strings.Contains(f.Log.String(), "opens again") {
			t.Errorf("after it was enabled: %+v", sl)
		}
		next := []*servertest.Seal{a.Again(), b.Again()}
		f.SetSeals([]keep.Seal{next[0], next[1]})
		synctest.Wait()
		for _, seal := range next {
			if calls, _, _ := seal.Count(); calls != 1 {
				t.Errorf("after a reload, seal %s was asked %d times", seal.Called, calls)
			}
		}
		f.Stop(t)
	})
}

// Damage that nobody has read yet is found in the background.
func TestScrub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keep.db")
		a := servertest.NewSeal("a", 1)
		f := start(t, path, a)
		f.Initialize(t)
		f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
		time.Sleep(keep.ScrubDelay + time.Second)
		synctest.Wait()
		metrics := f.Must(t, 200, "GET", "sys/metrics", "").Text
		if !strings.Contains(metrics, "sealkeep_storage_damage 0") || !strings.Contains(f.Log.String(), "checked the store") {
			t.Error("a sound store was not checked")
		}
		f.Stop(t)

		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			k, v := tx.Bucket([]byte("data")).Cursor().Last()
			v = bytes.Clone(v)
			v[len(v)-1] ^= 1
			return tx.Bucket([]byte("data")).Put(k, v)
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		f = start(t, path, a.Again())
		time.Sleep(keep.ScrubDelay + time.Second)
		synctest.Wait()
		if !strings.Contains(f.Log.String(), "the store is damaged") || f.Findings() == 0 {
			t.Errorf("damage was not found: %s", f.Log)
		}
		f.Stop(t)
	})
}
