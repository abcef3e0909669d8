package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlotRoutesNeedTheToken(t *testing.T) {
	f := fresh(t)
	for path, method := range map[string]string{"sys/slots": "GET", "sys/slots/check": "DELETE", "sys/slots/check/verify": "POST", "sys/rotate/root": "POST"} {
		f.must(t, 403, method, path, "", "X-Vault-Token: wrong")
	}
	f.must(t, 200, "GET", "sys/slots/check", "")
}

func TestListSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		f := one(t, a)
		b.tell(fails("dns"))
		f.reload(a.again(), b)
		for _, method := range []string{"GET", "LIST"} {
			r := f.must(t, 200, method, "sys/slots", "")
			if got := fmt.Sprint(r.get("data", "keys")); got != "[a b]" {
				t.Errorf("%s: keys %s", method, got)
			}
			var got []string
			for _, x := range r.get("data", "slots").([]any) {
				m := x.(map[string]any)
				got = append(got, fmt.Sprintf("%v %v %v %v %v %v %v %t %t", m["name"], m["type"], m["state"], m["class"], m["key_id"], m["priority"], m["root_generation"], m["created"] != nil, m["last_opened"] != nil))
			}
			if want := []string{"a fake ready <nil> a-key 1 1 true true", "b fake pending dns <nil> 2 <nil> false false"}; !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", method, got, want)
			}
		}
		if r := f.must(t, 200, "GET", "sys/slots/b", ""); r.get("data", "hint") == nil || r.get("data", "next_attempt") == nil {
			t.Error(r.text)
		}
		f.must(t, 404, "GET", "sys/slots/nothing", "")
	})
}

// A seal that comes from the environment alone gets its slot when somebody asks.
func TestAddSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		f := one(t, a)
		b.manual = true
		b.tell(fails("auth_denied"))
		f.reload(a.again(), b)
		if r := f.must(t, 400, "POST", "sys/slots/b", ""); !strings.Contains(r.errors(), "auth_denied") || !strings.Contains(r.errors(), "next: ") {
			t.Error(r.text)
		}
		b.tell(nil)
		if r := f.must(t, 200, "POST", "sys/slots/b", ""); r.get("data", "state") != "ready" || r.get("data", "key_id") != "b-key" {
			t.Error(r.text)
		}
		for path, want := range map[string]string{"b": "has its slot already", "nothing": "no seal named"} {
			if r := f.call(t, "POST", "sys/slots/"+path, "{}"); r.status/100 != 4 || !strings.Contains(r.errors(), want) {
				t.Errorf("%s: %d %s", path, r.status, r.text)
			}
		}
		b.turn("moved") // what has a slot is looked after as any other
		time.Sleep(2 * probeInterval)
		if sl := f.slot(t, "b"); sl.KeyID != "moved" {
			t.Errorf("%+v", sl)
		}
		f.opensAlone(t, b)
	})
}

func TestVerifySlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSeal("a", 1)
		f := one(t, a)
		if r := f.must(t, 200, "POST", "sys/slots/a/verify", ""); r.get("data", "opened") != true || r.get("data", "error") != nil {
			t.Error(r.text)
		}
		a.tell(fails("key_disabled"))
		if r := f.must(t, 200, "POST", "sys/slots/a/verify", ""); r.get("data", "opened") != false || r.get("data", "class") != "key_disabled" || r.get("data", "hint") == nil {
			t.Error(r.text)
		}
		a.tell(nil)
		a.lie = true
		if r := f.must(t, 200, "POST", "sys/slots/a/verify", ""); r.get("data", "opened") != false || r.get("data", "class") != "blob_mismatch" {
			t.Error(r.text)
		}
		if a.wrapped() != 1 {
			t.Errorf("%d wraps", a.wrapped())
		}
		f.reload()
		if r := f.must(t, 200, "POST", "sys/slots/a/verify", ""); r.get("data", "opened") != false || !strings.Contains(fmt.Sprint(r.get("data", "error")), "no seal") {
			t.Error(r.text)
		}
		f.must(t, 404, "POST", "sys/slots/nothing/verify", "")
	})
}

func TestRemoveSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSeal("a", 1), newSeal("b", 2)
		f := one(t, a)
		f.reload(a.again(), b)
		refused := func(name, want string) {
			t.Helper()
			if r := f.must(t, 400, "DELETE", "sys/slots/"+name, ""); !strings.Contains(r.errors(), want) {
				t.Errorf("%s: %s", name, r.text)
			}
			if f.slot(t, name).KeyID == "" {
				t.Errorf("%s is gone", name)
			}
		}
		refused("a", "disabled = true") // it would come back
		f.must(t, 404, "DELETE", "sys/slots/nothing", "")

		broken := b.again()
		broken.tell(fails("key_disabled"))
		f.reload(broken)
		refused("a", "b: key_disabled")
		lying := b.again()
		lying.lie, lying.bad = true, true
		f.reload(lying)
		refused("a", "b: blob_mismatch")
		standby := b.again()
		standby.disabled = true
		f.reload(standby)
		refused("a", "no other slot with an enabled seal")
		f.reload()
		refused("b", "no other slot with an enabled seal")

		good := b.again()
		f.reload(good)
		before, _, _ := good.count()
		r := f.must(t, 200, "DELETE", "sys/slots/a", "")
		if now, _, _ := good.count(); r.get("data", "opened_instead") != "b" || now == before || !strings.Contains(r.text, "rotate-root") {
			t.Errorf("%d calls: %s", now-before, r.text)
		}
		if n := len(f.Status().Slots); n != 1 || !strings.Contains(f.log.String(), `msg="removed a slot" slot=a opened_instead=b`) {
			t.Errorf("%d slots are left", n)
		}
		refused("b", "would come back")
		f.opensAlone(t, b)
	})
}

// A slot in the way of a seal of another type is removed, and the seal gets its own.
func TestRemoveForAnotherType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, other := newSeal("a", 1), newSeal("b", 2), newSeal("a", 1)
		other.typ = "other"
		f := one(t, a)
		f.reload(a.again(), b)
		f.reload(other, b.again())
		f.must(t, 200, "DELETE", "sys/slots/a", "")
		synctest.Wait()
		if sl := f.slot(t, "a"); sl.State != SlotReady || sl.Type != "other" {
			t.Errorf("%+v", sl)
		}
	})
}

func TestMigrateIsAnswered(t *testing.T) {
	f := fresh(t)
	if r := f.must(t, 400, "PUT", "sys/unseal", `{"migrate":true}`); !strings.Contains(r.errors(), "operator slot list") || !strings.Contains(r.errors(), "operator slot remove") {
		t.Error(r.text)
	}
}
