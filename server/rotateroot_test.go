package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

func TestRotateRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, standby := newSeal("a", 1), newSeal("b", 2), newSeal("standby", 3)
		path := filepath.Join(t.TempDir(), "keep.db")
		f := start(t, path, a, b, standby)
		out, err := f.Init(t.Context(), InitRequest{RecoveryShares: 3, RecoveryThreshold: 2})
		if err != nil {
			t.Fatal(err)
		}
		f.root = out.RootToken
		f.must(t, 200, "POST", "secret/data/x", `{"data":{"k":"v"}}`)
		off := standby.again()
		off.disabled = true
		f.reload(a.again(), b.again(), off)
		copied := filepath.Join(t.TempDir(), "copy.db")
		f.stop(t)
		file, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(copied, file, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		a, b = a.again(), b.again()
		f = start(t, path, a, b, off.again(), func() Seal { s := off.again(); s.name = "another"; s.manual = true; return s }())
		f.root = out.RootToken
		f.openWithin(t, time.Second)
		f.SetSeals([]Seal{a.again(), b.again(), func() Seal { s := off.again(); s.disabled = true; return s }()})
		synctest.Wait()

		r := f.must(t, 200, "POST", "sys/rotate/root", "")
		old, now := r.get("data", "previous_fingerprint"), r.get("data", "fingerprint")
		if old != out.Fingerprint || now == old || now != f.Status().Fingerprint || fmt.Sprint(r.get("data", "slots")) != "[a b standby recovery-shares]" ||
			!strings.Contains(r.text, "older copies") || !strings.Contains(r.text, "operator storage compact") {
			t.Errorf("answer: %s", r.text)
		}
		for _, name := range []string{"a", "b", "standby", "recovery-shares"} {
			if sl := f.slot(t, name); sl.Generation != 2 {
				t.Errorf("%+v", sl)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if r := f.must(t, 200, "GET", "sys/key-status", ""); r.get("term").(fmt.Stringer).String() != "2" || fmt.Sprint(r.get("terms")) != "[2]" {
			t.Errorf("key-status: %s", r.text)
		}
		f.must(t, 200, "GET", "secret/data/x", "")
		f.stop(t)
		for _, seal := range []*fakeSeal{a, b, standby} {
			again := start(t, path, seal.again())
			again.openWithin(t, time.Second)
			again.stop(t)
			checkStore(t, path, seal.again())
			before := start(t, copied, seal.again()) // what no rotation can change
			before.openWithin(t, time.Second)
			if before.Status().Fingerprint != out.Fingerprint {
				t.Error("the copy has another root key")
			}
			before.stop(t)
		}
		// People open the new root key, too.
		again := start(t, path)
		for _, share := range out.RecoveryKeysBase64[1:] {
			again.must(t, 200, "PUT", "sys/unseal", `{"key":"`+share+`"}`)
		}
		if st := again.Status(); st.Sealed || st.Fingerprint != now {
			t.Errorf("by shares: %+v", st)
		}
	})
}

func TestRotateRootRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := newSeal("a", 1), newSeal("b", 2), newSeal("c", 3)
		f := one(t, a)
		f.reload(a.again(), b, c)
		first := f.Status().Fingerprint
		refused := func(body, want string) {
			t.Helper()
			if r := f.call(t, "POST", "sys/rotate/root", body); r.status/100 != 4 || !strings.Contains(r.errors(), want) {
				t.Errorf("%s: %d %s", body, r.status, r.text)
			}
			if f.Status().Fingerprint != first {
				t.Fatal("changed all the same")
			}
		}
		f.reload(a.again(), b.again()) // c is orphaned
		refused("", "c: orphaned")
		refused(`{"drop":["d"]}`, "no slot named")
		refused(`{"drop":["a","b","c"]}`, "no enabled service slot would be left")
		refused(`{"drop":{"c":1}}`, "drop must be a list")
		gone := b.again()
		gone.tell(fails("unreachable"))
		f.reload(a.again(), gone)
		refused(`{"drop":["c"]}`, `slot "b": unreachable`)
		spoilt := b.again()
		spoilt.bad = true
		f.reload(a.again(), spoilt)
		refused(`{"drop":["c"]}`, `slot "b": blob_mismatch`)
		r := f.must(t, 200, "POST", "sys/rotate/root", `{"drop":["c","b"]}`)
		if fmt.Sprint(r.get("data", "slots")) != "[a]" || !strings.Contains(r.text, `still has seal \"b\"`) {
			t.Error(r.text)
		}
		f.stop(t)
		f = start(t, f.path, b.again(), c.again()) // what they have wrapped is worth nothing here
		if err := f.Unseal(t.Context()); err != nil || !f.Status().Sealed {
			t.Errorf("opened by a dropped slot, %v", err)
		}
		for _, sl := range f.Status().Slots {
			if sl.Opener {
				t.Errorf("%+v", sl)
			}
		}
		f.opensAlone(t, a)
	})
}

// Half-way there is nothing that a slot of the next generation opens.
func TestRootRotatesUnderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		f := one(t, a)
		f.reload(a.again(), b)
		stop, failed := make(chan struct{}), make(chan string, 1)
		for w := range 4 {
			go func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
					if r := f.call(t, "POST", fmt.Sprintf("secret/data/%d-%d", w, i), `{"data":{"k":"v"}}`); r.status != 200 {
						select {
						case failed <- r.text:
						default:
						}
					}
				}
			}()
		}
		seen := map[any]bool{f.Status().Fingerprint: true}
		for range 5 {
			time.Sleep(50 * time.Millisecond)
			r := f.must(t, 200, "POST", "sys/rotate/root", "{}")
			seen[r.get("data", "fingerprint")] = true
		}
		close(stop)
		synctest.Wait()
		select {
		case text := <-failed:
			t.Errorf("a write failed: %s", text)
		default:
		}
		if len(seen) != 6 {
			t.Errorf("%d fingerprints", len(seen))
		}
		f.opensAlone(t, b)
	})
}

// The background brings what was written before to the newest key, and goes on
// where it was after a restart; a keep rotates by itself when it is told to.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSeal("a", 1)
		f := one(t, a)
		for i := range 3000 {
			if err := f.keep.Load().Store.Update(t.Context(), func(tx *storage.Tx) error {
				return tx.Put(fmt.Sprintf("fill/%d", i), []byte("x"))
			}); err != nil {
				t.Fatal(err)
			}
		}
		f.must(t, 204, "PUT", "sys/rotate", "")
		time.Sleep(200 * time.Millisecond)
		r := f.must(t, 200, "GET", "sys/key-status", "")
		if r.get("reencryption", "running") != true || fmt.Sprint(r.get("terms")) != "[1 2]" || fmt.Sprint(r.get("reencryption", "passed")) == "0" {
			t.Errorf("under way: %s", r.text)
		}
		f.stop(t)
		root := f.root
		f = start(t, f.path, a.again())
		f.root = root
		f.openWithin(t, time.Second)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r = f.must(t, 200, "GET", "sys/key-status", "")
		if r.get("reencryption", "running") != false || fmt.Sprint(r.get("terms")) != "[2]" {
			t.Errorf("after a restart: %s", r.text)
		}
		for name, want := range map[string]string{"sealkeep_barrier_terms": "1"} {
			if got := scrape(t, f.must(t, 200, "GET", "sys/metrics", ""))[name]; got != want {
				t.Errorf("%s is %q", name, got)
			}
		}

		if r := f.must(t, 200, "GET", "sys/rotate/config", ""); fmt.Sprint(r.get("data")) != "map[enabled:true interval:0 max_operations:0]" {
			t.Errorf("config: %s", r.text)
		}
		for body, want := range map[string]string{`{"interval":"1h"}`: "24 hours", `{"max_operations":5}`: "1000000", `{"interval":"soon"}`: "", `{"interval":-1}`: ""} {
			if r := f.must(t, 400, "POST", "sys/rotate/config", body); !strings.Contains(r.errors(), want) {
				t.Errorf("%s: %s", body, r.text)
			}
		}
		f.must(t, 204, "POST", "sys/rotate/config", `{"enabled":"true","interval":"48h","max_operations":"2000000"}`) // as the command line sends it
		f.must(t, 204, "POST", "sys/rotate/keyring/config", `{"enabled":true}`)
		if r := f.must(t, 200, "GET", "sys/rotate/keyring/config", ""); fmt.Sprint(r.get("data")) != "map[enabled:true interval:48h0m0s max_operations:2000000]" {
			t.Errorf("config: %s", r.text)
		}
		term := func() string { return fmt.Sprint(f.must(t, 200, "GET", "sys/key-status", "").get("terms")) }
		time.Sleep(47 * time.Hour)
		if got := term(); got != "[2]" {
			t.Errorf("after 47 hours: %s", got)
		}
		time.Sleep(2*time.Hour + time.Minute)
		if got := term(); got != "[3]" {
			t.Errorf("after 49 hours: %s", got)
		}
		f.must(t, 204, "POST", "sys/rotate/config", `{"enabled":false}`)
		time.Sleep(200 * time.Hour)
		if got := term(); got != "[3]" {
			t.Errorf("switched off: %s", got)
		}
	})
}
