package keep_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/servertest"
)

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// initShares initializes the keep over its API, and returns the shares as base64.
func (f *fixture) initShares(t testing.TB, n, k int) []string {
	t.Helper()
	r := f.Must(t, 200, "PUT", "sys/init", fmt.Sprintf(`{"recovery_shares":%d,"recovery_threshold":%d}`, n, k))
	f.Root = r.Get("root_token").(string)
	return texts(r.Get("recovery_keys_base64"))
}

func texts(v any) []string {
	list, _ := v.([]any)
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s.(string)
	}
	return out
}

// orphan is a store with shares whose only key service is gone, and its shares.
func orphan(t testing.TB, n, k int) (path, root string, shares []string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keep.db")
	f := start(t, path, servertest.NewSeal("gone", 1))
	shares = f.initShares(t, n, k)
	f.Must(t, 200, "POST", "secret/data/kept", `{"data":{"value":"here"}}`)
	f.Stop(t)
	return path, f.Root, shares
}

// line is values with spaces between them.
func line(values ...any) string { return strings.TrimSpace(fmt.Sprintln(values...)) }

// give sends a share to sys/unseal.
func (f *fixture) give(t testing.TB, share string) servertest.Reply {
	t.Helper()
	return f.Call(t, "PUT", "sys/unseal", `{"key":`+servertest.JSONText(share)+`}`)
}

func TestInitRecovery(t *testing.T) {
	recipient := newIdentity(t).Recipient().String()
	for name, test := range map[string]struct {
		body       string
		recipients []string
		shares     int
		slots      string
		warns      string
	}{
		"absent":                      {`{}`, nil, 5, "recovery-shares", ""},
		"null":                        {`{"recovery_shares":null}`, nil, 5, "recovery-shares", ""},
		"none":                        {`{"recovery_shares":0,"recovery_threshold":0}`, nil, 0, "", "no recovery slot"},
		"none, without threshold":     {`{"recovery_shares":0}`, nil, 0, "", "no recovery slot"},
		"one":                         {`{"recovery_shares":1,"recovery_threshold":1}`, nil, 1, "recovery-shares", ""},
		"recipients":                  {`{}`, []string{recipient}, 0, "recovery-age", ""},
		"recipients, shares as asked": {`{"recovery_shares":3,"recovery_threshold":2}`, []string{recipient}, 3, "recovery-age recovery-shares", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, filepath.Join(t.TempDir(), "keep.db"), servertest.NewSeal("a", 1))
			f.SetRecovery(test.recipients, false)
			r := f.Must(t, 200, "PUT", "sys/init", test.body)
			keys, b64 := texts(r.Get("recovery_keys")), texts(r.Get("recovery_keys_base64"))
			if len(keys) != test.shares || len(b64) != test.shares {
				t.Fatalf("%d and %d shares, want %d", len(keys), len(b64), test.shares)
			}
			for i := range keys {
				h, err := hex.DecodeString(keys[i])
				b, err2 := base64.StdEncoding.DecodeString(b64[i])
				if err != nil || err2 != nil || !bytes.Equal(h, b) {
					t.Errorf("share %d: %v %v", i, err, err2)
				}
			}
			if w := fmt.Sprint(r.Get("warnings")); test.warns != "" && !strings.Contains(w, test.warns) || test.warns == "" && w != "<nil>" {
				t.Errorf("warnings: %s", w)
			}
			var names []string
			for _, sl := range f.Status().Slots {
				if sl.State == keep.SlotRecovery {
					names = append(names, sl.Name)
				}
			}
			slices.Sort(names)
			if got := strings.Join(names, " "); got != test.slots {
				t.Errorf("recovery slots %q, want %q", got, test.slots)
			}
			st := f.Must(t, 200, "GET", "sys/seal-status", "")
			if fmt.Sprint(st.Get("n")) != fmt.Sprint(test.shares) {
				t.Errorf("seal-status: %s", st.Text)
			}
		})
	}
}

// Shares can be handed out such that each is for one person only.
func TestInitEncryptedShares(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	f := start(t, path, servertest.NewSeal("gone", 1))
	a, b := newIdentity(t), newIdentity(t)
	list := fmt.Sprintf(`["%s","%s"]`, a.Recipient(), b.Recipient())
	for body, says := range map[string]string{
		`{"recovery_age_recipients":` + list + `}`:                                                                        "2 recipients for 5 shares",
		`{"recovery_shares":0,"recovery_age_recipients":` + list + `}`:                                                    "recovery_shares is from 1",
		`{"recovery_shares":2,"recovery_threshold":2,"recovery_age_recipients":["` + a.Recipient().String() + `","ssh"]}`: "number 2 of 2",
		`{"recovery_shares":300,"recovery_threshold":2}`:                                                                  "from 1 to 255",
		`{"recovery_shares":2}`: "recovery_threshold from 1 to recovery_shares: not 2 and 3",
	} {
		if r := f.Call(t, "PUT", "sys/init", body); r.Status != 400 || !strings.Contains(r.Errors(), says) {
			t.Errorf("%s: %d %s", body, r.Status, r.Errors())
		}
	}
	r := f.Must(t, 200, "PUT", "sys/init", `{"recovery_shares":2,"recovery_threshold":2,"recovery_age_recipients":`+list+`}`)
	f.Stop(t)
	f = start(t, path)
	for i, id := range []*age.X25519Identity{a, b} {
		text := texts(r.Get("recovery_keys_base64"))[i]
		plain, err := age.Decrypt(armor.NewReader(strings.NewReader(text)), id)
		if err != nil {
			t.Fatal(err)
		}
		var share bytes.Buffer
		if _, err := share.ReadFrom(plain); err != nil {
			t.Fatal(err)
		}
		if r := f.give(t, share.String()); r.Status != 200 {
			t.Fatal(r.Text)
		}
	}
	if f.Status().Sealed {
		t.Error("the decrypted shares did not open the keep")
	}
}

// Every key service is gone, or there is no seal block at all: shares open the
// keep, one at a time, and what is wrong with one is said at once.
func TestUnsealWithShares(t *testing.T) {
	path, root, shares := orphan(t, 5, 3)
	_, _, others := orphan(t, 5, 3)
	for name, seals := range map[string][]keep.Seal{"the key is another": {servertest.NewSeal("gone", 1)}, "no seal block": nil} {
		t.Run(name, func(t *testing.T) {
			f := start(t, path, seals...)
			f.Root = root
			st := f.Must(t, 200, "GET", "sys/seal-status", "")
			if st.Get("sealed") != true || line(st.Get("t"), st.Get("n"), st.Get("progress"), st.Get("nonce")) != "3 5 0" {
				t.Fatalf("status: %s", st.Text)
			}
			first := f.give(t, shares[1])
			if first.Status != 200 || first.Get("sealed") != true || fmt.Sprint(first.Get("progress")) != "1" || first.Get("nonce") == "" {
				t.Fatalf("first share: %s", first.Text)
			}
			forged := bytes.Clone(unbase64(t, shares[2]))
			forged[20] ^= 1
			for _, test := range []struct{ share, says, result string }{
				{shares[1], "given before", "repeated"},
				{others[1], "another store", "other_set"},
				{base64.StdEncoding.EncodeToString(forged), "mistyped", "malformed"},
				{"not a share", "mistyped", "malformed"},
			} {
				if r := f.give(t, test.share); r.Status != 400 || !strings.Contains(r.Errors(), test.says) {
					t.Errorf("%s: %d %s", test.result, r.Status, r.Errors())
				}
				if got := f.Metric(t, `sealkeep_recovery_shares_total{result="`+test.result+`"}`); got == "" {
					t.Errorf("%s is not counted", test.result)
				}
			}
			if strings.Contains(f.Log.String(), others[1]) {
				t.Error("a share is in the log")
			}
			if r := f.give(t, hex.EncodeToString(unbase64(t, shares[4]))); fmt.Sprint(r.Get("progress")) != "2" || r.Get("nonce") != first.Get("nonce") {
				t.Errorf("second share: %s", r.Text)
			}
			// Forgotten at a wish.
			if r := f.Must(t, 200, "PUT", "sys/unseal", `{"reset":true}`); line(r.Get("progress"), r.Get("nonce")) != "0" {
				t.Errorf("reset: %s", r.Text)
			}
			for i, share := range []string{shares[0], shares[4]} {
				if r := f.give(t, share); fmt.Sprint(r.Get("progress")) != fmt.Sprint(i+1) {
					t.Errorf("share %d: %s", i, r.Text)
				}
			}
			last := f.give(t, shares[3])
			if last.Status != 200 || last.Get("sealed") != false || fmt.Sprint(last.Get("progress")) != "0" {
				t.Fatalf("last share: %s", last.Text)
			}
			if got := f.Slot(t, keep.SharesSlot); got.State != keep.SlotOpened || got.LastOpened.IsZero() {
				t.Errorf("slot: %+v", got)
			}
			if r := f.Must(t, 200, "GET", "secret/data/kept", ""); fmt.Sprint(r.Get("data", "data", "value")) != "here" {
				t.Errorf("the secret: %s", r.Text)
			}
			for _, seal := range seals {
				servertest.Until(t, func() bool { return f.Slot(t, seal.Name()).State == keep.SlotReady })
			}
			if r := f.give(t, shares[0]); r.Status != 200 || r.Get("sealed") != false {
				t.Errorf("a share for an open keep: %s", r.Text)
			}
			f.Must(t, 204, "PUT", "sys/seal", "")
			if err := f.Unseal(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := f.Must(t, 200, "GET", "sys/seal-status", "")
			if len(seals) > 0 { // it has been given the slot that it could not open
				if r.Get("sealed") != false {
					t.Errorf("the seal does not open the keep yet: %s", r.Text)
				}
				f.Stop(t)
				return
			}
			// Sealed by request, all shares are needed again, and lift that.
			for i, share := range shares[:3] {
				if r := f.give(t, share); r.Get("sealed") != (i < 2) || i == 2 && r.Get("held") != false {
					t.Errorf("share %d: %s", i, r.Text)
				}
			}
			f.Stop(t)
		})
	}
}

func unbase64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Anybody may send shares. Refused ones are answered at a limited rate, and that
// keeps nobody from giving a right one.
func TestRefusedSharesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, root, shares := orphan(t, 2, 2)
		f := start(t, path)
		f.Root = root
		for i := range 20 {
			r := f.give(t, "nonsense")
			if i < keep.RefusedBurst && r.Status != 400 || i >= keep.RefusedBurst && (r.Status != 429 || r.Header.Get("Retry-After") != "1") {
				t.Fatalf("refused share %d: %d %v", i, r.Status, r.Header)
			}
		}
		if n := strings.Count(f.Log.String(), "was refused"); n != keep.RefusedBurst {
			t.Errorf("%d lines in the log", n)
		}
		if r := f.give(t, shares[0]); r.Status != 200 || fmt.Sprint(r.Get("progress")) != "1" {
			t.Errorf("a right share: %d %s", r.Status, r.Text)
		}
		time.Sleep(1100 * time.Millisecond)
		if r := f.give(t, "nonsense"); r.Status != 400 {
			t.Errorf("a second later: %d", r.Status)
		}
		if r := f.give(t, "nonsense"); r.Status != 429 {
			t.Errorf("and another one: %d", r.Status)
		}
		if r := f.give(t, shares[1]); r.Get("sealed") != false {
			t.Errorf("the last share: %s", r.Text)
		}
		if got := f.Metric(t, `sealkeep_recovery_shares_total{result="malformed"}`); got != "22" {
			t.Errorf("counted: %s", got)
		}
	})
}

func TestUnsealWithIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	a, b, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
	f := start(t, path, servertest.NewSeal("gone", 1))
	f.SetRecovery([]string{b.Recipient().String(), a.Recipient().String()}, false)
	f.Must(t, 200, "PUT", "sys/init", `{}`)
	f.Stop(t)

	f = start(t, path)
	send := func(text string) servertest.Reply {
		return f.Call(t, "PUT", "sys/unseal", `{"identity":`+servertest.JSONText(text)+`}`)
	}
	for text, says := range map[string]string{
		stranger.String():              "not one of the recipients of this keep",
		b.Recipient().String():         "the public half",
		"AGE-SECRET-KEY-1":             "not an age identity",
		strings.Repeat("# x\n", 2<<10): "more than 4096 bytes",
	} {
		if r := send(text); r.Status != 400 || !strings.Contains(r.Errors(), says) {
			t.Errorf("%.30s: %d %s", text, r.Status, r.Errors())
		}
	}
	if r := f.give(t, "share"); r.Status != 400 || !strings.Contains(r.Errors(), "no recovery shares: give the age identity") {
		t.Errorf("a share: %s", r.Text)
	}
	if r := send("# created: today\n" + b.String() + "\n"); r.Status != 200 || r.Get("sealed") != false {
		t.Errorf("identity: %s", r.Text)
	}
	if strings.Contains(f.Log.String(), b.String()[20:]) || strings.Contains(f.Log.String(), stranger.String()[20:]) {
		t.Error("an identity is in the log")
	}
}

func TestUnsealWithoutRecovery(t *testing.T) {
	path := made(t, servertest.NewSeal("gone", 1))
	f := start(t, path)
	for _, body := range []string{`{"key":"x"}`, `{"identity":"x"}`} {
		if r := f.Call(t, "PUT", "sys/unseal", body); r.Status != 400 || !strings.Contains(r.Errors(), "no recovery slot") {
			t.Errorf("%s: %s", body, r.Text)
		}
	}
	if r := f.Call(t, "PUT", "sys/unseal", `{"key":"x","identity":"x"}`); r.Status != 400 || !strings.Contains(r.Errors(), "not both") {
		t.Errorf("both: %s", r.Text)
	}
	f = start(t, filepath.Join(t.TempDir(), "absent.db"))
	if r := f.give(t, "x"); r.Status != 400 || !strings.Contains(r.Errors(), "not initialized") {
		t.Errorf("no store: %s", r.Text)
	}
}

// After people have opened the keep, a new seal gets its slot, and the keep is
// automatic again. The recipients of the configuration are taken over, too.
func TestAutomaticAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, _, shares := orphan(t, 3, 2)
		fresh, id := servertest.NewSeal("fresh", 1), newIdentity(t)
		f := start(t, path, fresh)
		f.SetRecovery([]string{id.Recipient().String()}, false)
		for _, share := range shares[:2] {
			f.give(t, share)
		}
		if f.Status().Sealed {
			t.Fatal("the shares did not open the keep")
		}
		time.Sleep(time.Minute)
		if got := f.Slot(t, "fresh"); got.State != keep.SlotReady {
			t.Fatalf("the new slot: %+v", got)
		}
		if got := f.Slot(t, keep.AgeSlot); got.State != keep.SlotRecovery || got.KeyID != id.Recipient().String() {
			t.Fatalf("the slot of the recipients: %+v", got)
		}
		commits := f.Store().Stats().Commits
		if err := f.ReconcileRecovery(t.Context()); err != nil || f.Store().Stats().Commits != commits {
			t.Errorf("nothing to do, but %d commits more, %v", f.Store().Stats().Commits-commits, err)
		}
		other := newIdentity(t).Recipient().String()
		f.SetRecovery([]string{id.Recipient().String(), other}, false)
		if err := f.ReconcileRecovery(t.Context()); err != nil || f.Store().Stats().Commits != commits+1 {
			t.Errorf("another recipient: %d commits, %v", f.Store().Stats().Commits-commits, err)
		}
		f.SetRecovery(nil, false)
		if err := f.ReconcileRecovery(t.Context()); err != nil || f.Slot(t, keep.AgeSlot).KeyID != keep.RecipientsID([]string{other, id.Recipient().String()}) {
			t.Errorf("no recipients any more: %+v %v", f.Slot(t, keep.AgeSlot), err)
		}
		f.Stop(t)

		f = start(t, path, fresh.Again())
		f.OpenWithin(t, time.Second)
		f.Stop(t)
		f = start(t, path)
		if r := f.Call(t, "PUT", "sys/unseal", `{"identity":"`+id.String()+`"}`); r.Get("sealed") != false {
			t.Errorf("identity: %s", r.Text)
		}
	})
}

// Configured without any seal, a keep is made that only people open.
func TestPeopleOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	f := start(t, path)
	if r := f.Call(t, "PUT", "sys/init", `{"recovery_shares":0}`); r.Status != 400 || !strings.Contains(r.Errors(), "no enabled seal") {
		t.Errorf("nobody would open it: %s", r.Text)
	}
	r := f.Must(t, 200, "PUT", "sys/init", `{"recovery_shares":1,"recovery_threshold":1}`)
	if !strings.Contains(fmt.Sprint(r.Get("warnings")), "waits until people open it") || f.Status().Sealed {
		t.Errorf("init: %s", r.Text)
	}
	f.Stop(t)
	f = start(t, path)
	if r := f.give(t, texts(r.Get("recovery_keys"))[0]); r.Get("sealed") != false {
		t.Errorf("the share: %s", r.Text)
	}
}

// Shares, seals by request, reloads and questions come in any order and at once.
func TestPeopleAtOnce(t *testing.T) {
	path, root, shares := orphan(t, 3, 2)
	f := start(t, path)
	f.Root = root
	var wait sync.WaitGroup
	opened := atomic.Int64{}
	for i := range 4 {
		wait.Go(func() {
			for n := range 50 {
				switch (i + n) % 4 {
				case 0:
					f.Keep.Seal()
				case 1:
					f.SetSeals([]keep.Seal{servertest.NewSeal("other", 1)})
					f.give(t, "nonsense")
				default:
					if r := f.give(t, shares[(i+n)%3]); r.Get("sealed") == false {
						opened.Add(1)
					}
					f.Call(t, "PUT", "sys/recovery/verify", `{"key":"`+shares[n%3]+`"}`)
				}
				f.Call(t, "GET", "sys/seal-status", "")
			}
		})
	}
	wait.Wait()
	f.Keep.Seal()
	f.give(t, shares[0])
	if r := f.give(t, shares[2]); r.Get("sealed") != false || opened.Load() == 0 {
		t.Errorf("at the end: %s; opened %d times before", r.Text, opened.Load())
	}
}
