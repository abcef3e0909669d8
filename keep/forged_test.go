package keep_test

import (
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// What somebody writes to the file instead of a recovery slot is refused, or
// never written to again.
func TestForgedRecoverySlot(t *testing.T) {
	seal, id, thief := servertest.NewSeal("a", 1), newIdentity(t), newIdentity(t)
	path := filepath.Join(t.TempDir(), "keep.db")
	f := start(t, path, seal)
	f.SetRecovery([]string{id.Recipient().String()}, false)
	shares := f.initShares(t, 2, 2)
	uuid := f.Store().UUID()
	f.Stop(t)
	own := storage.NewRootKey() // of the thief, wrapped to the recipients, who are public
	_, otherShares, err := recovery.Split(2, 2)
	if err != nil {
		t.Fatal(err)
	}
	editSlot(t, path, keep.AgeSlot, func(slot *storage.Slot) {
		slot.KeyID = thief.Recipient().String()
	})
	editSlot(t, path, keep.SharesSlot, func(slot *storage.Slot) {
		to, _, _, err := recovery.Recipients(slot.Lock)
		if err != nil {
			t.Fatal(err)
		}
		if slot.Blob, err = recovery.Wrap(to, own, slot.Context(uuid)); err != nil {
			t.Fatal(err)
		}
	})

	f = start(t, path)
	f.give(t, shares[0])
	if r := f.give(t, shares[1]); r.Status != 400 || !strings.Contains(r.Errors(), "not the root key of this store") || !f.Status().Sealed {
		t.Errorf("a foreign root key: %d %s", r.Status, r.Text)
	}
	if r := f.give(t, base64.StdEncoding.EncodeToString(otherShares[0])); r.Status != 400 {
		t.Errorf("a share of the thief's: %s", r.Text)
	}
	f.Stop(t)

	synctest.Test(t, func(t *testing.T) {
		f := start(t, path, seal.Again())
		f.SetRecovery([]string{id.Recipient().String()}, false)
		f.OpenWithin(t, time.Second)
		time.Sleep(time.Minute)
		for _, sl := range f.Status().Slots {
			if sl.Name == keep.SharesSlot && sl.State != keep.SlotQuarantined {
				t.Errorf("the forged slot: %+v", sl)
			}
			if strings.Contains(sl.KeyID, thief.Recipient().String()) && sl.State != keep.SlotQuarantined {
				t.Errorf("the thief's recipient is taken for good: %+v", sl)
			}
		}
		key, err := f.Unsealed().AgeSlotKey()
		if err != nil || key != id.Recipient().String() {
			t.Errorf("the slot of the configuration's recipient: %s, %v", key, err)
		}
		f.Stop(t)
	})
}

// editSlot changes a slot in the file of a keep that does not run, and returns
// what it was.
func editSlot(t testing.TB, path, name string, edit func(*storage.Slot)) (old storage.Slot) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("slots"))
		if err := json.Unmarshal(b.Get([]byte(name))[1:], &old); err != nil {
			return err
		}
		slot := old
		edit(&slot)
		j, err := json.Marshal(slot)
		if err != nil {
			return err
		}
		return b.Put([]byte(name), append([]byte{1}, j...))
	})
	if err != nil {
		t.Fatal(err)
	}
	return old
}

// After a rotation of the root key the same people open the keep; who brings back
// a slot from before, with the shares of then, opens nothing.
func TestPeopleOutliveRotateRoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	seal, id := servertest.NewSeal("a", 1), newIdentity(t)
	f := start(t, path, seal)
	f.SetRecovery([]string{id.Recipient().String()}, false)
	shares := f.initShares(t, 2, 2)
	root := f.Root
	f.Stop(t)
	before := editSlot(t, path, keep.SharesSlot, func(*storage.Slot) {})

	f = start(t, path, seal.Again())
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Root = root
	f.Must(t, 200, "POST", "sys/rotate/root", `{}`)
	f.Stop(t)
	for _, body := range [][]string{{`{"key":"` + shares[0] + `"}`, `{"key":"` + shares[1] + `"}`}, {`{"identity":"` + id.String() + `"}`}} {
		f = start(t, path)
		for _, b := range body {
			f.Must(t, 200, "PUT", "sys/unseal", b)
		}
		if f.Status().Sealed {
			t.Errorf("%d requests did not open it", len(body))
		}
		f.Stop(t)
	}
	editSlot(t, path, keep.SharesSlot, func(slot *storage.Slot) { *slot = before })
	f = start(t, path)
	f.give(t, shares[0])
	if r := f.give(t, shares[1]); r.Status != 400 || !strings.Contains(r.Errors(), "not the root key of this store") || !f.Status().Sealed {
		t.Errorf("the slot of before: %s", r.Text)
	}
}
