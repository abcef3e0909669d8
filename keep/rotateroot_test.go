package keep_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

func TestRotateRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, standby := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2), servertest.NewSeal("standby", 3)
		path := filepath.Join(t.TempDir(), "keep.db")
		f := start(t, path, a, b, standby)
		out, err := f.Init(t.Context(), keep.InitRequest{RecoveryShares: 3, RecoveryThreshold: 2})
		if err != nil {
			t.Fatal(err)
		}
		f.Root = out.RootToken
		f.Must(t, 200, "POST", "secret/data/x", `{"data":{"k":"v"}}`)
		off := standby.Again()
		off.Off = true
		f.reload(a.Again(), b.Again(), off)
		copied := filepath.Join(t.TempDir(), "copy.db")
		f.Stop(t)
		file, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(copied, file, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		a, b = a.Again(), b.Again()
		f = start(t, path, a, b, off.Again(), func() keep.Seal { s := off.Again(); s.Called = "another"; s.ByHand = true; return s }())
		f.Root = out.RootToken
		f.OpenWithin(t, time.Second)
		f.SetSeals([]keep.Seal{a.Again(), b.Again(), func() keep.Seal { s := off.Again(); s.Off = true; return s }()})
		synctest.Wait()

		r := f.Must(t, 200, "POST", "sys/rotate/root", "")
		old, now := r.Get("data", "previous_fingerprint"), r.Get("data", "fingerprint")
		if old != out.Fingerprint || now == old || now != f.Status().Fingerprint || fmt.Sprint(r.Get("data", "slots")) != "[a b standby recovery-shares]" ||
			!strings.Contains(r.Text, "older copies") || !strings.Contains(r.Text, "operator storage compact") {
			t.Errorf("answer: %s", r.Text)
		}
		for _, name := range []string{"a", "b", "standby", "recovery-shares"} {
			if sl := f.Slot(t, name); sl.Generation != 2 {
				t.Errorf("%+v", sl)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if r := f.Must(t, 200, "GET", "sys/key-status", ""); r.Get("term").(fmt.Stringer).String() != "2" || fmt.Sprint(r.Get("terms")) != "[2]" {
			t.Errorf("key-status: %s", r.Text)
		}
		f.Must(t, 200, "GET", "secret/data/x", "")
		f.Stop(t)
		for _, seal := range []*servertest.Seal{a, b, standby} {
			again := start(t, path, seal.Again())
			again.OpenWithin(t, time.Second)
			again.Stop(t)
			servertest.CheckStore(t, path, seal.Again())
			before := start(t, copied, seal.Again()) // what no rotation can change
			before.OpenWithin(t, time.Second)
			if before.Status().Fingerprint != out.Fingerprint {
				t.Error("the copy has another root key")
			}
			before.Stop(t)
		}
		// People open the new root key, too.
		again := start(t, path)
		for _, share := range out.RecoveryKeysBase64[1:] {
			again.Must(t, 200, "PUT", "sys/unseal", `{"key":"`+share+`"}`)
		}
		if st := again.Status(); st.Sealed || st.Fingerprint != now {
			t.Errorf("by shares: %+v", st)
		}
	})
}

func TestRotateRootRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2), servertest.NewSeal("c", 3)
		f := one(t, a)
		f.reload(a.Again(), b, c)
		first := f.Status().Fingerprint
		refused := func(body, want string) {
			t.Helper()
			if r := f.Call(t, "POST", "sys/rotate/root", body); r.Status/100 != 4 || !strings.Contains(r.Errors(), want) {
				t.Errorf("%s: %d %s", body, r.Status, r.Text)
			}
			if f.Status().Fingerprint != first {
				t.Fatal("changed all the same")
			}
		}
		f.reload(a.Again(), b.Again()) // c is orphaned
		refused("", "c: orphaned")
		refused(`{"drop":["d"]}`, "no slot named")
		refused(`{"drop":["a","b","c"]}`, "no enabled service slot would be left")
		refused(`{"drop":{"c":1}}`, "drop must be a list")
		gone := b.Again()
		gone.Tell(servertest.Fails("unreachable"))
		f.reload(a.Again(), gone)
		refused(`{"drop":["c"]}`, `slot "b": unreachable`)
		spoilt := b.Again()
		spoilt.Bad = true
		f.reload(a.Again(), spoilt)
		refused(`{"drop":["c"]}`, `slot "b": blob_mismatch`)
		r := f.Must(t, 200, "POST", "sys/rotate/root", `{"drop":["c","b"]}`)
		if fmt.Sprint(r.Get("data", "slots")) != "[a]" || !strings.Contains(r.Text, `still has seal \"b\"`) {
			t.Error(r.Text)
		}
		f.Stop(t)
		f = start(t, f.Path, b.Again(), c.Again()) // what they have wrapped is worth nothing here
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
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := one(t, a)
		f.reload(a.Again(), b)
		stop, failed := make(chan struct{}), make(chan string, 1)
		for w := range 4 {
			go func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
					if r := f.Call(t, "POST", fmt.Sprintf("secret/data/%d-%d", w, i), `{"data":{"k":"v"}}`); r.Status != 200 {
						select {
						case failed <- r.Text:
						default:
						}
					}
				}
			}()
		}
		seen := map[any]bool{f.Status().Fingerprint: true}
		for range 5 {
			time.Sleep(50 * time.Millisecond)
			r := f.Must(t, 200, "POST", "sys/rotate/root", "{}")
			seen[r.Get("data", "fingerprint")] = true
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
		a := servertest.NewSeal("a", 1)
		f := one(t, a)
		for i := range 3000 {
			if err := f.Unsealed().Store.Update(t.Context(), func(tx *storage.Tx) error {
				return tx.Put(fmt.Sprintf("fill/%d", i), []byte("x"))
			}); err != nil {
				t.Fatal(err)
			}
		}
		f.Must(t, 204, "PUT", "sys/rotate", "")
		time.Sleep(200 * time.Millisecond)
		r := f.Must(t, 200, "GET", "sys/key-status", "")
		if r.Get("reencryption", "running") != true || fmt.Sprint(r.Get("terms")) != "[1 2]" || fmt.Sprint(r.Get("reencryption", "passed")) == "0" {
			t.Errorf("under way: %s", r.Text)
		}
		f.Stop(t)
		root := f.Root
		f = start(t, f.Path, a.Again())
		f.Root = root
		f.OpenWithin(t, time.Second)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r = f.Must(t, 200, "GET", "sys/key-status", "")
		if r.Get("reencryption", "running") != false || fmt.Sprint(r.Get("terms")) != "[2]" {
			t.Errorf("after a restart: %s", r.Text)
		}
		for name, want := range map[string]string{"sealkeep_barrier_terms": "1"} {
			if got := servertest.Scrape(t, f.Must(t, 200, "GET", "sys/metrics", ""))[name]; got != want {
				t.Errorf("%s is %q", name, got)
			}
		}

		if r := f.Must(t, 200, "GET", "sys/rotate/config", ""); fmt.Sprint(r.Get("data")) != "map[enabled:true interval:0 max_operations:0]" {
			t.Errorf("config: %s", r.Text)
		}
		for body, want := range map[string]string{`{"interval":"1h"}`: "24 hours", `{"max_operations":5}`: "1000000", `{"interval":"soon"}`: "", `{"interval":-1}`: ""} {
			if r := f.Must(t, 400, "POST", "sys/rotate/config", body); !strings.Contains(r.Errors(), want) {
				t.Errorf("%s: %s", body, r.Text)
			}
		}
		f.Must(t, 204, "POST", "sys/rotate/config", `{"enabled":"true","interval":"48h","max_operations":"2000000"}`) // as the command line sends it
		f.Must(t, 204, "POST", "sys/rotate/keyring/config", `{"enabled":true}`)
		if r := f.Must(t, 200, "GET", "sys/rotate/keyring/config", ""); fmt.Sprint(r.Get("data")) != "map[enabled:true interval:48h0m0s max_operations:2000000]" {
			t.Errorf("config: %s", r.Text)
		}
		term := func() string { return fmt.Sprint(f.Must(t, 200, "GET", "sys/key-status", "").Get("terms")) }
		time.Sleep(47 * time.Hour)
		if got := term(); got != "[2]" {
			t.Errorf("after 47 hours: %s", got)
		}
		time.Sleep(2*time.Hour + time.Minute)
		if got := term(); got != "[3]" {
			t.Errorf("after 49 hours: %s", got)
		}
		f.Must(t, 204, "POST", "sys/rotate/config", `{"enabled":false}`)
		time.Sleep(200 * time.Hour)
		if got := term(); got != "[3]" {
			t.Errorf("switched off: %s", got)
		}
	})
}
