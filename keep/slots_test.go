package keep_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/servertest"
)

func TestSlotRoutesNeedTheToken(t *testing.T) {
	f := fresh(t)
	for path, method := range map[string]string{"sys/slots": "GET", "sys/slots/check": "DELETE", "sys/slots/check/verify": "POST", "sys/rotate/root": "POST"} {
		f.Must(t, 403, method, path, "", "X-Vault-Token: wrong")
	}
	f.Must(t, 200, "GET", "sys/slots/check", "")
}

func TestListSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := one(t, a)
		b.Tell(servertest.Fails("dns"))
		f.reload(a.Again(), b)
		for _, method := range []string{"GET", "LIST"} {
			r := f.Must(t, 200, method, "sys/slots", "")
			if got := fmt.Sprint(r.Get("data", "keys")); got != "[a b]" {
				t.Errorf("%s: keys %s", method, got)
			}
			var got []string
			for _, x := range r.Get("data", "slots").([]any) {
				m := x.(map[string]any)
				got = append(got, fmt.Sprintf("%v %v %v %v %v %v %v %t %t", m["name"], m["type"], m["state"], m["class"], m["key_id"], m["priority"], m["root_generation"], m["created"] != nil, m["last_opened"] != nil))
			}
			if want := []string{"a fake ready <nil> a-key 1 1 true true", "b fake pending dns <nil> 2 <nil> false false"}; !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", method, got, want)
			}
		}
		if r := f.Must(t, 200, "GET", "sys/slots/b", ""); r.Get("data", "hint") == nil || r.Get("data", "next_attempt") == nil {
			t.Error(r.Text)
		}
		f.Must(t, 404, "GET", "sys/slots/nothing", "")
	})
}

// A seal that comes from the environment alone gets its slot when somebody asks.
func TestAddSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := one(t, a)
		b.ByHand = true
		b.Tell(servertest.Fails("auth_denied"))
		f.reload(a.Again(), b)
		if r := f.Must(t, 400, "POST", "sys/slots/b", ""); !strings.Contains(r.Errors(), "auth_denied") || !strings.Contains(r.Errors(), "next: ") {
			t.Error(r.Text)
		}
		b.Tell(nil)
		if r := f.Must(t, 200, "POST", "sys/slots/b", ""); r.Get("data", "state") != "ready" || r.Get("data", "key_id") != "b-key" {
			t.Error(r.Text)
		}
		for path, want := range map[string]string{"b": "has its slot already", "nothing": "no seal named"} {
			if r := f.Call(t, "POST", "sys/slots/"+path, "{}"); r.Status/100 != 4 || !strings.Contains(r.Errors(), want) {
				t.Errorf("%s: %d %s", path, r.Status, r.Text)
			}
		}
		b.Turn("moved") // what has a slot is looked after as any other
		time.Sleep(2 * keep.ProbeInterval)
		if sl := f.Slot(t, "b"); sl.KeyID != "moved" {
			t.Errorf("%+v", sl)
		}
		f.opensAlone(t, b)
	})
}

func TestVerifySlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		f := one(t, a)
		if r := f.Must(t, 200, "POST", "sys/slots/a/verify", ""); r.Get("data", "opened") != true || r.Get("data", "error") != nil {
			t.Error(r.Text)
		}
		a.Tell(servertest.Fails("key_disabled"))
		if r := f.Must(t, 200, "POST", "sys/slots/a/verify", ""); r.Get("data", "opened") != false || r.Get("data", "class") != "key_disabled" || r.Get("data", "hint") == nil {
			t.Error(r.Text)
		}
		a.Tell(nil)
		a.Lies = true
		if r := f.Must(t, 200, "POST", "sys/slots/a/verify", ""); r.Get("data", "opened") != false || r.Get("data", "class") != "blob_mismatch" {
			t.Error(r.Text)
		}
		if a.Wrapped() != 1 {
			t.Errorf("%d wraps", a.Wrapped())
		}
		f.reload()
		if r := f.Must(t, 200, "POST", "sys/slots/a/verify", ""); r.Get("data", "opened") != false || !strings.Contains(fmt.Sprint(r.Get("data", "error")), "no seal") {
			t.Error(r.Text)
		}
		f.Must(t, 404, "POST", "sys/slots/nothing/verify", "")
	})
}

func TestRemoveSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
		f := one(t, a)
		f.reload(a.Again(), b)
		refused := func(name, want string) {
			t.Helper()
			if r := f.Must(t, 400, "DELETE", "sys/slots/"+name, ""); !strings.Contains(r.Errors(), want) {
				t.Errorf("%s: %s", name, r.Text)
			}
			if f.Slot(t, name).KeyID == "" {
				t.Errorf("%s is gone", name)
			}
		}
		refused("a", "disabled = true") // it would come back
		f.Must(t, 404, "DELETE", "sys/slots/nothing", "")

		broken := b.Again()
		broken.Tell(servertest.Fails("key_disabled"))
		f.reload(broken)
		refused("a", "b: key_disabled")
		lying := b.Again()
		lying.Lies, lying.Bad = true, true
		f.reload(lying)
		refused("a", "b: blob_mismatch")
		standby := b.Again()
		standby.Off = true
		f.reload(standby)
		refused("a", "no other slot with an enabled seal")
		f.reload()
		refused("b", "no other slot with an enabled seal")

		good := b.Again()
		f.reload(good)
		before, _, _ := good.Count()
		r := f.Must(t, 200, "DELETE", "sys/slots/a", "")
		if now, _, _ := good.Count(); r.Get("data", "opened_instead") != "b" || now == before || !strings.Contains(r.Text, "rotate-root") {
			t.Errorf("%d calls: %s", now-before, r.Text)
		}
		if n := len(f.Status().Slots); n != 1 || !strings.Contains(f.Log.String(), `msg="removed a slot" slot=a opened_instead=b`) {
			t.Errorf("%d slots are left", n)
		}
		refused("b", "would come back")
		f.opensAlone(t, b)
	})
}

// A slot in the way of a seal of another type is removed, and the seal gets its own.
func TestRemoveForAnotherType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, other := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2), servertest.NewSeal("a", 1)
		other.Kind = "other"
		f := one(t, a)
		f.reload(a.Again(), b)
		f.reload(other, b.Again())
		f.Must(t, 200, "DELETE", "sys/slots/a", "")
		synctest.Wait()
		if sl := f.Slot(t, "a"); sl.State != keep.SlotReady || sl.Type != "other" {
			t.Errorf("%+v", sl)
		}
	})
}

func TestMigrateIsAnswered(t *testing.T) {
	f := fresh(t)
	if r := f.Must(t, 400, "PUT", "sys/unseal", `{"migrate":true}`); !strings.Contains(r.Errors(), "operator slot list") || !strings.Contains(r.Errors(), "operator slot remove") {
		t.Error(r.Text)
	}
}
