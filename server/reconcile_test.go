package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sealkeep/sealkeep/storage"
)

// one runs an unsealed keep with one seal in a bubble, checked at its end.
func one(t *testing.T, a *fakeSeal) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keep.db")
	f := start(t, path, a)
	f.init(t)
	t.Cleanup(func() { f.stop(t) })
	synctest.Wait()
	return f
}

// reload gives the keep seals, and waits until what can be done at once is done.
func (f *fixture) reload(seals ...*fakeSeal) {
	var all []Seal
	for _, seal := range seals {
		all = append(all, seal)
	}
	f.SetSeals(all)
	synctest.Wait()
}

// opensAlone restarts the keep with one seal only, which must open it, and stops
// it again.
func (f *fixture) opensAlone(t *testing.T, seal *fakeSeal) {
	t.Helper()
	f.stop(t)
	again := start(t, f.path, seal.again())
	again.openWithin(t, time.Second)
	if sl := again.slot(t, seal.name); !sl.Opener {
		t.Errorf("opened by another slot: %+v", sl)
	}
	again.stop(t)
	checkStore(t, f.path, seal.again())
}

func TestNewSealGetsASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		f := one(t, a)
		b.tell(fails("auth_denied"))
		f.reload(a.again(), b)
		f.must(t, 200, "POST", "secret/data/x", `{"data":{"k":"v"}}`) // it serves on
		if sl := f.slot(t, "b"); sl.State != SlotPending || sl.Class != "auth_denied" || sl.Hint == "" || sl.NextAttempt.IsZero() || sl.FailedSince.IsZero() {
			t.Errorf("a seal that is not allowed: %+v", sl)
		}
		if r := f.must(t, 200, "GET", "sys/seal-backend-status", ""); r.get("fully_wrapped") != false || r.get("healthy") != false {
			t.Errorf("seal-backend-status: %s", r.text)
		}
		before := b.wrapped()
		time.Sleep(time.Hour)
		if n := b.wrapped() - before; n < 12 || n > 25 {
			t.Errorf("%d attempts in an hour", n)
		}
		if n := strings.Count(f.log.String(), "could not be given a slot"); n != 1 {
			t.Errorf("said %d times in an hour", n)
		}
		b.tell(nil)
		time.Sleep(retryMost + time.Second)
		synctest.Wait()
		if sl := f.slot(t, "b"); sl.State != SlotReady || sl.KeyID != "b-key" || sl.Created.IsZero() || sl.Generation != 1 || sl.LastOpened.IsZero() || sl.Error != "" {
			t.Errorf("when it is allowed: %+v", sl)
		}
		if r := f.must(t, 200, "GET", "sys/seal-backend-status", ""); r.get("fully_wrapped") != true || r.get("healthy") != true {
			t.Errorf("seal-backend-status: %s", r.text)
		}
		f.opensAlone(t, b)
	})
}

// A reload tries at once what is pending; a keep that opens finds it, too.
func TestPendingIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := newSeal("a", 1), newSeal("b", 2), newSeal("c", 3)
		f := one(t, a)
		b.tell(hangs)
		f.reload(a.again(), b)
		time.Sleep(time.Hour)
		if sl := f.slot(t, "b"); sl.State != SlotPending || sl.Class != "unreachable" {
			t.Errorf("a seal that hangs: %+v", sl)
		}
		b2 := b.again()
		f.reload(a.again(), b2)
		if sl := f.slot(t, "b"); sl.State != SlotReady {
			t.Errorf("after a reload: %+v", sl)
		}
		f.stop(t)
		again := start(t, f.path, a.again(), b.again(), c)
		again.openWithin(t, time.Second)
		synctest.Wait()
		if sl := again.slot(t, "c"); sl.State != SlotReady {
			t.Errorf("after a start: %+v", sl)
		}
		again.opensAlone(t, c)
	})
}

// What a key service does with its keys is followed by itself, and the old key
// may end then.
func TestRewrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		path := made(t, a, b)
		f := start(t, path, a, b)
		f.openWithin(t, time.Second)
		synctest.Wait()
		a.turn("moved")
		time.Sleep(probeInterval + time.Second)
		synctest.Wait()
		if sl := f.slot(t, "a"); sl.State != SlotOpened || sl.KeyID != "moved" || sl.KeyInForce != "moved" {
			t.Errorf("after the first look: %+v", sl)
		}
		b.turn("rotated")
		time.Sleep(probeInterval)
		synctest.Wait()
		if sl := f.slot(t, "b"); sl.State != SlotReady || sl.KeyID != "rotated" {
			t.Errorf("after an hour: %+v", sl)
		}
		for _, want := range []string{`msg="wrapped the root key anew" slot=a type=fake key=moved instead_of=a-key`, `slot=b type=fake key=rotated instead_of=b-key`} {
			if strings.Count(f.log.String(), want) != 1 {
				t.Errorf("the log lacks %q", want)
			}
		}
		f.root = ""
		s := f.Server
		text, err := s.metrics.text()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`sealkeep_slot_rewraps_total{slot="a"} 1`, `sealkeep_slot_rewraps_total{slot="b"} 1`,
			`sealkeep_slot_operation_seconds_count{operation="wrap",slot="a"} 1`, `sealkeep_slot_healthy{class="",slot="a",type="fake"} 1`} {
			if !bytes.Contains(text, []byte(want+"\n")) {
				t.Errorf("the metrics lack %s", want)
			}
		}
		wraps := a.wrapped() + b.wrapped()
		time.Sleep(5 * time.Hour)
		if a.wrapped()+b.wrapped() != wraps {
			t.Error("wrapped again, though nothing has moved")
		}
		a.end("a-key")
		b.end("b-key")
		time.Sleep(2 * time.Hour)
		for _, name := range []string{"a", "b"} {
			if sl := f.slot(t, name); sl.Class != "" {
				t.Errorf("without the old key: %+v", sl)
			}
		}
		f.stop(t)
		last := b.again()
		last.dead = "b-key"
		again := start(t, path, last)
		again.openWithin(t, time.Second)
	})
}

// A key that was replaced without a way to open what the old one has wrapped: the
// keep is open and has the root key.
func TestReplacedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSeal("a", 1)
		f := one(t, a)
		other := newSeal("a", 1)
		other.key = "a-key" // not even another name
		f.reload(other)
		if sl := f.slot(t, "a"); sl.State != SlotReady || sl.Class != "" {
			t.Errorf("%+v", sl)
		}
		if !strings.Contains(f.log.String(), `and was replaced" slot=a type=fake error="the fake key service says blob_mismatch"`) {
			t.Error("the log does not say why")
		}
		f.opensAlone(t, other)
	})
}

// A key that was disabled or deleted before the alias moved on, or the block named
// another: the keep is open, and follows.
func TestMovedAfterTheKeyEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSeal("a", 1)
		f := one(t, a)
		a.end("a-key")
		time.Sleep(2 * probeInterval)
		synctest.Wait()
		if sl := f.slot(t, "a"); sl.State != SlotFailed || sl.Class != "key_disabled" || a.wrapped() != 1 {
			t.Errorf("the key is disabled: %+v, wrapped %d times", sl, a.wrapped())
		}
		a.turn("moved")
		time.Sleep(probeInterval)
		synctest.Wait()
		if sl := f.slot(t, "a"); sl.State == SlotFailed || sl.KeyID != "moved" {
			t.Errorf("another key: %+v", sl)
		}
		f.opensAlone(t, a)
	})
}

// The old slot stays until there is a new one that opens.
func TestRewrapThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSeal("a", 1)
		f := one(t, a)
		for _, spoil := range []func(*fakeSeal){
			func(s *fakeSeal) { s.bad = true },
			func(s *fakeSeal) { s.lie = true },
		} {
			next := a.again()
			next.turn("moved")
			spoil(next)
			f.reload(next)
			if sl := f.slot(t, "a"); sl.State != SlotFailed || sl.Class != "blob_mismatch" || sl.KeyID != "a-key" {
				t.Errorf("%+v", sl)
			}
		}
		f.opensAlone(t, a)
	})
}

// What was committed is opened before it counts.
func TestSlotCountsWhenOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		f := one(t, a)
		b.tell(func(context.Context) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.calls == 2 { // the first is before the commit
				return classed("throttled")
			}
			return nil
		})
		f.reload(a.again(), b)
		if sl := f.slot(t, "b"); sl.State != SlotFailed || sl.Class != "throttled" || sl.KeyID != "b-key" {
			t.Errorf("not yet opened: %+v", sl)
		}
		time.Sleep(retryFirst)
		synctest.Wait()
		if sl := f.slot(t, "b"); sl.State != SlotReady || b.wrapped() != 1 {
			t.Errorf("then: %+v, %d wraps", sl, b.wrapped())
		}
	})
}

func TestSealsThatGetNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSeal("a", 1)
		f := one(t, a)
		off, by, other := newSeal("off", 2), newSeal("by-environment", 3), newSeal("a", 4)
		off.disabled, by.manual, other.typ = true, true, "other"
		standby := a.again()
		standby.disabled = true
		standby.turn("moved")
		f.reload(off, by, standby)
		for name, want := range map[string]string{"off": "a disabled seal", "by-environment": "environment variables alone"} {
			if sl := f.slot(t, name); sl.State != SlotPending || !strings.Contains(sl.Error, want) || sl.Hint == "" || sl.Attempts != 0 {
				t.Errorf("%+v", sl)
			}
			if !strings.Contains(f.log.String(), `msg="a seal gets no slot" slot=`+name) {
				t.Errorf("%s: not logged", name)
			}
		}
		if sl := f.slot(t, "a"); sl.State != SlotStandby || sl.KeyID != "a-key" || sl.Attempts != 2 {
			t.Errorf("a disabled seal's slot: %+v", sl)
		}
		f.reload(other)
		time.Sleep(2 * probeInterval)
		if sl := f.slot(t, "a"); sl.State != SlotPending || sl.Type != "other" || !strings.Contains(sl.Error, `for a seal of type "fake"`) || sl.Hint == "" {
			t.Errorf("a seal of another type: %+v", sl)
		}
		if off.wrapped()+by.wrapped()+other.wrapped()+standby.wrapped() != 0 {
			t.Error("asked to wrap")
		}
		if r := f.call(t, "POST", "sys/slots/a", ""); r.status != 400 || !strings.Contains(r.errors(), "another name") {
			t.Errorf("adding: %d %s", r.status, r.text)
		}
		f.opensAlone(t, a)
	})
}

// What stands in the file in place of a slot is shown, and the slot made anew.
func TestSlotSwappedInTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := newSeal("a", 1), newSeal("b", 2), newSeal("c", 3)
		path := filepath.Join(t.TempDir(), "keep.db")
		f := start(t, path, a.again(), b.again(), c)
		f.init(t)
		f.stop(t)
		root := f.root
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			slots := tx.Bucket([]byte("slots"))
			var slot storage.Slot
			if err := json.Unmarshal(slots.Get([]byte("b"))[1:], &slot); err != nil {
				return err
			}
			slot.KeyID = "the attacker's"
			record, err := json.Marshal(slot)
			if err != nil {
				return err
			}
			return errors.Join(slots.Put([]byte("b"), append([]byte{1}, record...)), slots.Put([]byte("x"), []byte("not a slot")), slots.Delete([]byte("c")))
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		hung := b.again()
		hung.tell(hangs)
		f = start(t, path, a, hung)
		f.root = root
		f.openWithin(t, time.Second)
		states := func() (s string) {
			for _, sl := range f.Status().Slots {
				s += fmt.Sprintf("%s %s, ", sl.Name, sl.State)
			}
			return s
		}
		if got := states(); got != "a opened, b pending, b quarantined, x quarantined, c missing, " {
			t.Errorf("slots: %s", got)
		}
		f.reload(a.again(), b.again())
		if got := states(); got != "a opened, b ready, x quarantined, c missing, " {
			t.Errorf("after b could be asked: %s", got)
		}
		if got := f.slot(t, "b"); got.KeyID != "b-key" {
			t.Errorf("%+v", got)
		}
		for _, name := range []string{"x", "c"} {
			f.must(t, 200, "DELETE", "sys/slots/"+name, "")
		}
		synctest.Wait()
		if got := states(); got != "a opened, b ready, " {
			t.Errorf("at last: %s", got)
		}
		f.opensAlone(t, b)
	})
}

// A boot with three slots asks the first one alone, and is as quick as with one.
func TestThreeSlotsOpenLikeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := newSeal("a", 1), newSeal("b", 2), newSeal("c", 3)
		alone, three := made(t, a), made(t, a, b, c)
		took := make(map[string]time.Duration)
		for path, seals := range map[string][]*fakeSeal{alone: {a.again()}, three: {a.again(), b.again(), c.again()}} {
			var all []Seal
			var keep atomic.Pointer[fixture]
			asked := make([]atomic.Int32, len(seals)) // while sealed
			for i, seal := range seals {
				seal.tell(func(context.Context) error {
					if f := keep.Load(); f == nil || f.Status().Sealed {
						asked[i].Add(1)
					}
					time.Sleep(80 * time.Millisecond)
					return nil
				})
				all = append(all, seal)
			}
			f := start(t, path, all...)
			keep.Store(f)
			took[path] = f.openWithin(t, time.Second)
			synctest.Wait()
			for i := range seals {
				if n := asked[i].Load(); n != int32(1-min(i, 1)) {
					t.Errorf("%d seals: %s was asked %d times", len(seals), seals[i].name, n)
				}
			}
			f.stop(t)
		}
		if (took[alone] - took[three]).Abs() > 10*time.Millisecond { // as it is measured
			t.Errorf("one slot took %v, three %v", took[alone], took[three])
		}
	})
}

// A key that has moved while the keep was down is followed at once, not 15 s after
// the start; until then the slot is pending, shows on which key it hangs, and the
// keep is not settled.
func TestAMovedKeyIsFollowedBeforeTheKeepIsSettled(t *testing.T) {
	for _, how := range []string{"a start", "a reload"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newSeal("a", 1), newSeal("b", 2)
				f := start(t, made(t, a, b), a, b)
				f.openWithin(t, time.Second)
				synctest.Wait()
				if st := f.Status(); !st.Settled || f.slot(t, "a").KeyInForce != "a-key" {
					t.Fatalf("%+v", st)
				}
				next := []*fakeSeal{a.again(), b.again()}
				answers := make(chan struct{})
				for _, seal := range next {
					seal.turn(seal.name + "-moved")
					var opened atomic.Bool
					opened.Store(how == "a reload")
					seal.tell(func(ctx context.Context) error { // once it is open, the service takes its time
						if opened.CompareAndSwap(false, true) {
							return nil
						}
						select {
						case <-answers:
						case <-ctx.Done():
						}
						return ctx.Err()
					})
				}
				if how == "a start" {
					f = f.restart(t, next...)
					f.openWithin(t, 2*time.Second)
				} else {
					f.reload(next...)
				}
				synctest.Wait()
				for _, name := range []string{"a", "b"} {
					sl := f.slot(t, name)
					if sl.State != SlotPending || sl.KeyID != name+"-key" || !strings.Contains(sl.Error, "hangs on the key "+name+"-key") || sl.Hint == "" {
						t.Errorf("from the first moment: %+v", sl)
					}
				}
				if r := f.must(t, 200, "GET", "sys/seal-status", ""); r.get("settled") != false || r.get("sealed") != false || r.get("type") != "fake" {
					t.Error(r.text)
				}
				close(answers) // well within a second
				synctest.Wait()
				for _, name := range []string{"a", "b"} {
					if sl := f.slot(t, name); sl.KeyID != name+"-moved" || sl.KeyInForce != name+"-moved" || sl.State == SlotPending {
						t.Errorf("when it is settled: %+v", sl)
					}
				}
				if st := f.Status(); !st.Settled || !strings.Contains(f.log.String(), "msg=settled") && !strings.Contains(f.log.String(), `msg="settled`) {
					t.Errorf("%+v", st)
				}
				a2 := a.again()
				a2.turn("a-moved")
				a2.end("a-key") // the previous key goes, and nobody is locked out
				f = f.restart(t, a2)
				f.openWithin(t, time.Second)
			})
		})
	}
}

// What cannot be followed is shown, and the keep is not settled until it is.
func TestAKeyThatCannotBeFollowedLeavesTheKeepUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSeal("a", 1)
		path := made(t, a)
		next := a.again()
		next.turn("moved")
		next.bad = true // it makes what does not open
		f := start(t, path, next)
		f.openWithin(t, time.Second)
		synctest.Wait()
		sl := f.slot(t, "a")
		if sl.State != SlotFailed || sl.KeyID != "a-key" || sl.KeyInForce != "moved" || !strings.Contains(sl.Error, "still hangs on the key a-key") || f.Status().Settled {
			t.Errorf("%+v", sl)
		}
		next.mu.Lock()
		next.bad = false
		next.mu.Unlock()
		time.Sleep(2 * retryFirst)
		synctest.Wait()
		if sl := f.slot(t, "a"); sl.State != SlotOpened || sl.KeyID != "moved" || !f.Status().Settled {
			t.Errorf("%+v", sl)
		}
	})
}
