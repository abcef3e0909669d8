package keep_test

import (
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

	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// one runs an unsealed keep with one seal in a bubble, checked at its end.
func one(t *testing.T, a *servertest.Seal) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keep.db")
	f := start(t, path, a)
	f.Initialize(t)
	t.Cleanup(func() { f.Stop(t) })
	synctest.Wait()
	return f
}

// reload gives the keep seals, and waits until what can be done at once is done.
func (f *fixture) reload(seals ...*servertest.Seal) {
	var all []keep.Seal
	for _, seal := range seals {
		all = append(all, seal)
	}
	f.SetSeals(all)
	synctest.Wait()
}

// opensAlone restarts the keep with one seal only, which must open it, and stops
// it again.
func (f *fixture) opensAlone(t *testing.T, seal *servertest.Seal) {
	t.Helper()
	f.Stop(t)
	again := start(t, f.Path, seal.Again())
	again.OpenWithin(t, time.Second)
	if sl := again.Slot(t, seal.Called); !sl.Opener {
		t.Errorf("opened by another slot: %+v", sl)
	}
	again.Stop(t)
	servertest.CheckStore(t, f.Path, seal.Again())
}

func TestNewSealGetsASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := one(t, a)
		b.Tell(servertest.Fails("auth_denied"))
		f.reload(a.Again(), b)
		f.Must(t, 200, "POST", "secret/data/x", `{"data":{"k":"v"}}`) // it serves on
		if sl := f.Slot(t, "b"); sl.State != keep.SlotPending || sl.Class != "auth_denied" || sl.Hint == "" || sl.NextAttempt.IsZero() || sl.FailedSince.IsZero() {
			t.Errorf("a seal that is not allowed: %+v", sl)
		}
		if r := f.Must(t, 200, "GET", "sys/seal-backend-status", ""); r.Get("fully_wrapped") != false || r.Get("healthy") != false {
			t.Errorf("seal-backend-status: %s", r.Text)
		}
		before := b.Wrapped()
		time.Sleep(time.Hour)
		if n := b.Wrapped() - before; n < 12 || n > 25 {
			t.Errorf("%d attempts in an hour", n)
		}
		if n := strings.Count(f.Log.String(), "could not be given a slot"); n != 1 {
			t.Errorf("said %d times in an hour", n)
		}
		b.Tell(nil)
		time.Sleep(keep.RetryMost + time.Second)
		synctest.Wait()
		if sl := f.Slot(t, "b"); sl.State != keep.SlotReady || sl.KeyID != "b-key" || sl.Created.IsZero() || sl.Generation != 1 || sl.LastOpened.IsZero() || sl.Error != "" {
			t.Errorf("when it is allowed: %+v", sl)
		}
		if r := f.Must(t, 200, "GET", "sys/seal-backend-status", ""); r.Get("fully_wrapped") != true || r.Get("healthy") != true {
			t.Errorf("seal-backend-status: %s", r.Text)
		}
		f.opensAlone(t, b)
	})
}

// A reload tries at once what is pending; a keep that opens finds it, too.
func TestPendingIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2), servertest.NewSeal("c", 3)
		f := one(t, a)
		b.Tell(servertest.Hangs)
		f.reload(a.Again(), b)
		time.Sleep(time.Hour)
		if sl := f.Slot(t, "b"); sl.State != keep.SlotPending || sl.Class != "unreachable" {
			t.Errorf("a seal that hangs: %+v", sl)
		}
		b2 := b.Again()
		f.reload(a.Again(), b2)
		if sl := f.Slot(t, "b"); sl.State != keep.SlotReady {
			t.Errorf("after a reload: %+v", sl)
		}
		f.Stop(t)
		again := start(t, f.Path, a.Again(), b.Again(), c)
		again.OpenWithin(t, time.Second)
		synctest.Wait()
		if sl := again.Slot(t, "c"); sl.State != keep.SlotReady {
			t.Errorf("after a start: %+v", sl)
		}
		again.opensAlone(t, c)
	})
}

// What a key service does with its keys is followed by itself, and the old key
// may end then.
func TestRewrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		path := made(t, a, b)
		f := start(t, path, a, b)
		f.OpenWithin(t, time.Second)
		synctest.Wait()
		a.Turn("moved")
		time.Sleep(keep.ProbeInterval + time.Second)
		synctest.Wait()
		if sl := f.Slot(t, "a"); sl.State != keep.SlotOpened || sl.KeyID != "moved" || sl.KeyInForce != "moved" {
			t.Errorf("after the first look: %+v", sl)
		}
		b.Turn("rotated")
		time.Sleep(keep.ProbeInterval)
		synctest.Wait()
		if sl := f.Slot(t, "b"); sl.State != keep.SlotReady || sl.KeyID != "rotated" {
			t.Errorf("after an hour: %+v", sl)
		}
		for _, want := range []string{`msg="wrapped the root key anew" slot=a type=fake key=moved instead_of=a-key`, `slot=b type=fake key=rotated instead_of=b-key`} {
			if strings.Count(f.Log.String(), want) != 1 {
				t.Errorf("the log lacks %q", want)
			}
		}
		f.Root = ""
		f.HTTP = f.Handler(server.Listener{UnauthenticatedMetricsAccess: true})
		text := f.Must(t, 200, "GET", "sys/metrics", "").Text
		for _, want := range []string{`sealkeep_slot_rewraps_total{slot="a"} 1`, `sealkeep_slot_rewraps_total{slot="b"} 1`,
			`sealkeep_slot_operation_seconds_count{operation="wrap",slot="a"} 1`, `sealkeep_slot_healthy{class="",slot="a",type="fake"} 1`} {
			if !strings.Contains(text, want+"\n") {
				t.Errorf("the metrics lack %s", want)
			}
		}
		wraps := a.Wrapped() + b.Wrapped()
		time.Sleep(5 * time.Hour)
		if a.Wrapped()+b.Wrapped() != wraps {
			t.Error("wrapped again, though nothing has moved")
		}
		a.End("a-key")
		b.End("b-key")
		time.Sleep(2 * time.Hour)
		for _, name := range []string{"a", "b"} {
			if sl := f.Slot(t, name); sl.Class != "" {
				t.Errorf("without the old key: %+v", sl)
			}
		}
		f.Stop(t)
		last := b.Again()
		last.Dead = "b-key"
		again := start(t, path, last)
		again.OpenWithin(t, time.Second)
	})
}

// A key that was replaced without a way to open what the old one has wrapped: the
// keep is open and has the root key.
func TestReplacedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		f := one(t, a)
		other := servertest.NewSeal("a", 1)
		other.Key = "a-key" // not even another name
		f.reload(other)
		if sl := f.Slot(t, "a"); sl.State != keep.SlotReady || sl.Class != "" {
			t.Errorf("%+v", sl)
		}
		if !strings.Contains(f.Log.String(), `and was replaced" slot=a type=fake error="the fake key service says blob_mismatch"`) {
			t.Error("the log does not say why")
		}
		f.opensAlone(t, other)
	})
}

// A key that was disabled or deleted before the alias moved on, or the block named
// another: the keep is open, and follows.
func TestMovedAfterTheKeyEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		f := one(t, a)
		a.End("a-key")
		time.Sleep(2 * keep.ProbeInterval)
		synctest.Wait()
		if sl := f.Slot(t, "a"); sl.State != keep.SlotFailed || sl.Class != "key_disabled" || a.Wrapped() != 1 {
			t.Errorf("the key is disabled: %+v, wrapped %d times", sl, a.Wrapped())
		}
		a.Turn("moved")
		time.Sleep(keep.ProbeInterval)
		synctest.Wait()
		if sl := f.Slot(t, "a"); sl.State == keep.SlotFailed || sl.KeyID != "moved" {
			t.Errorf("another key: %+v", sl)
		}
		f.opensAlone(t, a)
	})
}

// The old slot stays until there is a new one that opens.
func TestRewrapThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		f := one(t, a)
		for _, spoil := range []func(*servertest.Seal){
			func(s *servertest.Seal) { s.Bad = true },
			func(s *servertest.Seal) { s.Lies = true },
		} {
			next := a.Again()
			next.Turn("moved")
			spoil(next)
			f.reload(next)
			if sl := f.Slot(t, "a"); sl.State != keep.SlotFailed || sl.Class != "blob_mismatch" || sl.KeyID != "a-key" {
				t.Errorf("%+v", sl)
			}
		}
		f.opensAlone(t, a)
	})
}

// What was committed is opened before it counts.
func TestSlotCountsWhenOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := one(t, a)
		b.Tell(func(context.Context) error {
			b.Mu.Lock()
			defer b.Mu.Unlock()
			if b.Calls == 2 { // the first is before the commit
				return servertest.Classed("throttled")
			}
			return nil
		})
		f.reload(a.Again(), b)
		if sl := f.Slot(t, "b"); sl.State != keep.SlotFailed || sl.Class != "throttled" || sl.KeyID != "b-key" {
			t.Errorf("not yet opened: %+v", sl)
		}
		time.Sleep(keep.RetryFirst)
		synctest.Wait()
		if sl := f.Slot(t, "b"); sl.State != keep.SlotReady || b.Wrapped() != 1 {
			t.Errorf("then: %+v, %d wraps", sl, b.Wrapped())
		}
	})
}

func TestSealsThatGetNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		f := one(t, a)
		off, by, other := servertest.NewSeal("off", 2), servertest.NewSeal("by-environment", 3), servertest.NewSeal("a", 4)
		off.Off, by.ByHand, other.Kind = true, true, "other"
		standby := a.Again()
		standby.Off = true
		standby.Turn("moved")
		f.reload(off, by, standby)
		for name, want := range map[string]string{"off": "a disabled seal", "by-environment": "environment variables alone"} {
			if sl := f.Slot(t, name); sl.State != keep.SlotPending || !strings.Contains(sl.Error, want) || sl.Hint == "" || sl.Attempts != 0 {
				t.Errorf("%+v", sl)
			}
			if !strings.Contains(f.Log.String(), `msg="a seal gets no slot" slot=`+name) {
				t.Errorf("%s: not logged", name)
			}
		}
		if sl := f.Slot(t, "a"); sl.State != keep.SlotStandby || sl.KeyID != "a-key" || sl.Attempts != 2 {
			t.Errorf("a disabled seal's slot: %+v", sl)
		}
		f.reload(other)
		time.Sleep(2 * keep.ProbeInterval)
		if sl := f.Slot(t, "a"); sl.State != keep.SlotPending || sl.Type != "other" || !strings.Contains(sl.Error, `for a seal of type "fake"`) || sl.Hint == "" {
			t.Errorf("a seal of another type: %+v", sl)
		}
		if off.Wrapped()+by.Wrapped()+other.Wrapped()+standby.Wrapped() != 0 {
			t.Error("asked to wrap")
		}
		if r := f.Call(t, "POST", "sys/slots/a", ""); r.Status != 400 || !strings.Contains(r.Errors(), "another name") {
			t.Errorf("adding: %d %s", r.Status, r.Text)
		}
		f.opensAlone(t, a)
	})
}

// What stands in the file in place of a slot is shown, and the slot made anew.
func TestSlotSwappedInTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2), servertest.NewSeal("c", 3)
		path := filepath.Join(t.TempDir(), "keep.db")
		f := start(t, path, a.Again(), b.Again(), c)
		f.Initialize(t)
		f.Stop(t)
		root := f.Root
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
		hung := b.Again()
		hung.Tell(servertest.Hangs)
		f = start(t, path, a, hung)
		f.Root = root
		f.OpenWithin(t, time.Second)
		states := func() (s string) {
			for _, sl := range f.Status().Slots {
				s += fmt.Sprintf("%s %s, ", sl.Name, sl.State)
			}
			return s
		}
		if got := states(); got != "a opened, b pending, b quarantined, x quarantined, c missing, " {
			t.Errorf("slots: %s", got)
		}
		f.reload(a.Again(), b.Again())
		if got := states(); got != "a opened, b ready, x quarantined, c missing, " {
			t.Errorf("after b could be asked: %s", got)
		}
		if got := f.Slot(t, "b"); got.KeyID != "b-key" {
			t.Errorf("%+v", got)
		}
		for _, name := range []string{"x", "c"} {
			f.Must(t, 200, "DELETE", "sys/slots/"+name, "")
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
		a, b, c := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2), servertest.NewSeal("c", 3)
		alone, three := made(t, a), made(t, a, b, c)
		took := make(map[string]time.Duration)
		for path, seals := range map[string][]*servertest.Seal{alone: {a.Again()}, three: {a.Again(), b.Again(), c.Again()}} {
			var all []keep.Seal
			var keep atomic.Pointer[fixture]
			asked := make([]atomic.Int32, len(seals)) // while sealed
			for i, seal := range seals {
				seal.Tell(func(context.Context) error {
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
			took[path] = f.OpenWithin(t, time.Second)
			synctest.Wait()
			for i := range seals {
				if n := asked[i].Load(); n != int32(1-min(i, 1)) {
					t.Errorf("%d seals: %s was asked %d times", len(seals), seals[i].Called, n)
				}
			}
			f.Stop(t)
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
				a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
				f := start(t, made(t, a, b), a, b)
				f.OpenWithin(t, time.Second)
				synctest.Wait()
				if st := f.Status(); !st.Settled || f.Slot(t, "a").KeyInForce != "a-key" {
					t.Fatalf("%+v", st)
				}
				next := []*servertest.Seal{a.Again(), b.Again()}
				answers := make(chan struct{})
				for _, seal := range next {
					seal.Turn(seal.Called + "-moved")
					var opened atomic.Bool
					opened.Store(how == "a reload")
					seal.Tell(func(ctx context.Context) error { // once it is open, the service takes its time
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
					f.OpenWithin(t, 2*time.Second)
				} else {
					f.reload(next...)
				}
				synctest.Wait()
				for _, name := range []string{"a", "b"} {
					sl := f.Slot(t, name)
					if sl.State != keep.SlotPending || sl.KeyID != name+"-key" || !strings.Contains(sl.Error, "hangs on the key "+name+"-key") || sl.Hint == "" {
						t.Errorf("from the first moment: %+v", sl)
					}
				}
				if r := f.Must(t, 200, "GET", "sys/seal-status", ""); r.Get("settled") != false || r.Get("sealed") != false || r.Get("type") != "fake" {
					t.Error(r.Text)
				}
				close(answers) // well within a second
				synctest.Wait()
				for _, name := range []string{"a", "b"} {
					if sl := f.Slot(t, name); sl.KeyID != name+"-moved" || sl.KeyInForce != name+"-moved" || sl.State == keep.SlotPending {
						t.Errorf("when it is settled: %+v", sl)
					}
				}
				if st := f.Status(); !st.Settled || !strings.Contains(f.Log.String(), "msg=settled") && !strings.Contains(f.Log.String(), `msg="settled`) {
					t.Errorf("%+v", st)
				}
				a2 := a.Again()
				a2.Turn("a-moved")
				a2.End("a-key") // the previous key goes, and nobody is locked out
				f = f.restart(t, a2)
				f.OpenWithin(t, time.Second)
			})
		})
	}
}

// What cannot be followed is shown, and the keep is not settled until it is.
func TestAKeyThatCannotBeFollowedLeavesTheKeepUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		path := made(t, a)
		next := a.Again()
		next.Turn("moved")
		next.Bad = true // it makes what does not open
		f := start(t, path, next)
		f.OpenWithin(t, time.Second)
		synctest.Wait()
		sl := f.Slot(t, "a")
		if sl.State != keep.SlotFailed || sl.KeyID != "a-key" || sl.KeyInForce != "moved" || !strings.Contains(sl.Error, "still hangs on the key a-key") || f.Status().Settled {
			t.Errorf("%+v", sl)
		}
		next.Mu.Lock()
		next.Bad = false
		next.Mu.Unlock()
		time.Sleep(2 * keep.RetryFirst)
		synctest.Wait()
		if sl := f.Slot(t, "a"); sl.State != keep.SlotOpened || sl.KeyID != "moved" || !f.Status().Settled {
			t.Errorf("%+v", sl)
		}
	})
}
