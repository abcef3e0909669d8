package server

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
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
	r := f.must(t, 200, "PUT", "sys/init", fmt.Sprintf(`{"recovery_shares":%d,"recovery_threshold":%d}`, n, k))
	f.root = r.get("root_token").(string)
	return texts(r.get("recovery_keys_base64"))
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
	f := start(t, path, newSeal("gone", 1))
	shares = f.initShares(t, n, k)
	f.must(t, 200, "POST", "secret/data/kept", `{"data":{"value":"here"}}`)
	f.stop(t)
	return path, f.root, shares
}

// line is values with spaces between them.
func line(values ...any) string { return strings.TrimSpace(fmt.Sprintln(values...)) }

func quote(s string) string { b, _ := json.Marshal(s); return string(b) }

// give sends a share to sys/unseal.
func (f *fixture) give(t testing.TB, share string) reply {
	t.Helper()
	return f.call(t, "PUT", "sys/unseal", `{"key":`+quote(share)+`}`)
}

func (f *fixture) metric(t testing.TB, line string) string {
	t.Helper()
	text := f.must(t, 200, "GET", "sys/metrics", "").text
	for l := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(l, line+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
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
			f := start(t, filepath.Join(t.TempDir(), "keep.db"), newSeal("a", 1))
			f.SetRecovery(test.recipients, false)
			r := f.must(t, 200, "PUT", "sys/init", test.body)
			keys, b64 := texts(r.get("recovery_keys")), texts(r.get("recovery_keys_base64"))
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
			if w := fmt.Sprint(r.get("warnings")); test.warns != "" && !strings.Contains(w, test.warns) || test.warns == "" && w != "<nil>" {
				t.Errorf("warnings: %s", w)
			}
			var names []string
			for _, sl := range f.Status().Slots {
				if sl.State == SlotRecovery {
					names = append(names, sl.Name)
				}
			}
			slices.Sort(names)
			if got := strings.Join(names, " "); got != test.slots {
				t.Errorf("recovery slots %q, want %q", got, test.slots)
			}
			st := f.must(t, 200, "GET", "sys/seal-status", "")
			if fmt.Sprint(st.get("n")) != fmt.Sprint(test.shares) {
				t.Errorf("seal-status: %s", st.text)
			}
		})
	}
}

// Shares can be handed out such that each is for one person only.
func TestInitEncryptedShares(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	f := start(t, path, newSeal("gone", 1))
	a, b := newIdentity(t), newIdentity(t)
	list := fmt.Sprintf(`["%s","%s"]`, a.Recipient(), b.Recipient())
	for body, says := range map[string]string{
		`{"recovery_age_recipients":` + list + `}`:                                                                        "2 recipients for 5 shares",
		`{"recovery_shares":0,"recovery_age_recipients":` + list + `}`:                                                    "recovery_shares is from 1",
		`{"recovery_shares":2,"recovery_threshold":2,"recovery_age_recipients":["` + a.Recipient().String() + `","ssh"]}`: "number 2 of 2",
		`{"recovery_shares":300,"recovery_threshold":2}`:                                                                  "from 1 to 255",
		`{"recovery_shares":2}`: "recovery_threshold from 1 to recovery_shares: not 2 and 3",
	} {
		if r := f.call(t, "PUT", "sys/init", body); r.status != 400 || !strings.Contains(r.errors(), says) {
			t.Errorf("%s: %d %s", body, r.status, r.errors())
		}
	}
	r := f.must(t, 200, "PUT", "sys/init", `{"recovery_shares":2,"recovery_threshold":2,"recovery_age_recipients":`+list+`}`)
	f.stop(t)
	f = start(t, path)
	for i, id := range []*age.X25519Identity{a, b} {
		text := texts(r.get("recovery_keys_base64"))[i]
		plain, err := age.Decrypt(armor.NewReader(strings.NewReader(text)), id)
		if err != nil {
			t.Fatal(err)
		}
		var share bytes.Buffer
		if _, err := share.ReadFrom(plain); err != nil {
			t.Fatal(err)
		}
		if r := f.give(t, share.String()); r.status != 200 {
			t.Fatal(r.text)
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
	for name, seals := range map[string][]Seal{"the key is another": {newSeal("gone", 1)}, "no seal block": nil} {
		t.Run(name, func(t *testing.T) {
			f := start(t, path, seals...)
			f.root = root
			st := f.must(t, 200, "GET", "sys/seal-status", "")
			if st.get("sealed") != true || line(st.get("t"), st.get("n"), st.get("progress"), st.get("nonce")) != "3 5 0" {
				t.Fatalf("status: %s", st.text)
			}
			first := f.give(t, shares[1])
			if first.status != 200 || first.get("sealed") != true || fmt.Sprint(first.get("progress")) != "1" || first.get("nonce") == "" {
				t.Fatalf("first share: %s", first.text)
			}
			forged := bytes.Clone(unbase64(t, shares[2]))
			forged[20] ^= 1
			for _, test := range []struct{ share, says, result string }{
				{shares[1], "given before", "repeated"},
				{others[1], "another store", "other_set"},
				{base64.StdEncoding.EncodeToString(forged), "mistyped", "malformed"},
				{"not a share", "mistyped", "malformed"},
			} {
				if r := f.give(t, test.share); r.status != 400 || !strings.Contains(r.errors(), test.says) {
					t.Errorf("%s: %d %s", test.result, r.status, r.errors())
				}
				if got := f.metric(t, `sealkeep_recovery_shares_total{result="`+test.result+`"}`); got == "" {
					t.Errorf("%s is not counted", test.result)
				}
			}
			if strings.Contains(f.log.String(), others[1]) {
				t.Error("a share is in the log")
			}
			if r := f.give(t, hex.EncodeToString(unbase64(t, shares[4]))); fmt.Sprint(r.get("progress")) != "2" || r.get("nonce") != first.get("nonce") {
				t.Errorf("second share: %s", r.text)
			}
			// Forgotten at a wish.
			if r := f.must(t, 200, "PUT", "sys/unseal", `{"reset":true}`); line(r.get("progress"), r.get("nonce")) != "0" {
				t.Errorf("reset: %s", r.text)
			}
			for i, share := range []string{shares[0], shares[4]} {
				if r := f.give(t, share); fmt.Sprint(r.get("progress")) != fmt.Sprint(i+1) {
					t.Errorf("share %d: %s", i, r.text)
				}
			}
			last := f.give(t, shares[3])
			if last.status != 200 || last.get("sealed") != false || fmt.Sprint(last.get("progress")) != "0" {
				t.Fatalf("last share: %s", last.text)
			}
			if got := f.slot(t, sharesSlot); got.State != SlotOpened || got.LastOpened.IsZero() {
				t.Errorf("slot: %+v", got)
			}
			if r := f.must(t, 200, "GET", "secret/data/kept", ""); fmt.Sprint(r.get("data", "data", "value")) != "here" {
				t.Errorf("the secret: %s", r.text)
			}
			for _, seal := range seals {
				until(t, func() bool { return f.slot(t, seal.Name()).State == SlotReady })
			}
			if r := f.give(t, shares[0]); r.status != 200 || r.get("sealed") != false {
				t.Errorf("a share for an open keep: %s", r.text)
			}
			f.must(t, 204, "PUT", "sys/seal", "")
			if err := f.Unseal(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := f.must(t, 200, "GET", "sys/seal-status", "")
			if len(seals) > 0 { // it has been given the slot that it could not open
				if r.get("sealed") != false {
					t.Errorf("the seal does not open the keep yet: %s", r.text)
				}
				f.stop(t)
				return
			}
			// Sealed by request, all shares are needed again, and lift that.
			for i, share := range shares[:3] {
				if r := f.give(t, share); r.get("sealed") != (i < 2) || i == 2 && r.get("held") != false {
					t.Errorf("share %d: %s", i, r.text)
				}
			}
			f.stop(t)
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
		f.root = root
		for i := range 20 {
			r := f.give(t, "nonsense")
			if i < refusedBurst && r.status != 400 || i >= refusedBurst && (r.status != 429 || r.header.Get("Retry-After") != "1") {
				t.Fatalf("refused share %d: %d %v", i, r.status, r.header)
			}
		}
		if n := strings.Count(f.log.String(), "was refused"); n != refusedBurst {
			t.Errorf("%d lines in the log", n)
		}
		if r := f.give(t, shares[0]); r.status != 200 || fmt.Sprint(r.get("progress")) != "1" {
			t.Errorf("a right share: %d %s", r.status, r.text)
		}
		time.Sleep(1100 * time.Millisecond)
		if r := f.give(t, "nonsense"); r.status != 400 {
			t.Errorf("a second later: %d", r.status)
		}
		if r := f.give(t, "nonsense"); r.status != 429 {
			t.Errorf("and another one: %d", r.status)
		}
		if r := f.give(t, shares[1]); r.get("sealed") != false {
			t.Errorf("the last share: %s", r.text)
		}
		if got := f.metric(t, `sealkeep_recovery_shares_total{result="malformed"}`); got != "22" {
			t.Errorf("counted: %s", got)
		}
	})
}

func TestUnsealWithIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	a, b, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
	f := start(t, path, newSeal("gone", 1))
	f.SetRecovery([]string{b.Recipient().String(), a.Recipient().String()}, false)
	f.must(t, 200, "PUT", "sys/init", `{}`)
	f.stop(t)

	f = start(t, path)
	send := func(text string) reply { return f.call(t, "PUT", "sys/unseal", `{"identity":`+quote(text)+`}`) }
	for text, says := range map[string]string{
		stranger.String():              "not one of the recipients of this keep",
		b.Recipient().String():         "the public half",
		"AGE-SECRET-KEY-1":             "not an age identity",
		strings.Repeat("# x\n", 2<<10): "more than 4096 bytes",
	} {
		if r := send(text); r.status != 400 || !strings.Contains(r.errors(), says) {
			t.Errorf("%.30s: %d %s", text, r.status, r.errors())
		}
	}
	if r := f.give(t, "share"); r.status != 400 || !strings.Contains(r.errors(), "no recovery shares: give the age identity") {
		t.Errorf("a share: %s", r.text)
	}
	if r := send("# created: today\n" + b.String() + "\n"); r.status != 200 || r.get("sealed") != false {
		t.Errorf("identity: %s", r.text)
	}
	if strings.Contains(f.log.String(), b.String()[20:]) || strings.Contains(f.log.String(), stranger.String()[20:]) {
		t.Error("an identity is in the log")
	}
}

func TestUnsealWithoutRecovery(t *testing.T) {
	path := made(t, newSeal("gone", 1))
	f := start(t, path)
	for _, body := range []string{`{"key":"x"}`, `{"identity":"x"}`} {
		if r := f.call(t, "PUT", "sys/unseal", body); r.status != 400 || !strings.Contains(r.errors(), "no recovery slot") {
			t.Errorf("%s: %s", body, r.text)
		}
	}
	if r := f.call(t, "PUT", "sys/unseal", `{"key":"x","identity":"x"}`); r.status != 400 || !strings.Contains(r.errors(), "not both") {
		t.Errorf("both: %s", r.text)
	}
	f = start(t, filepath.Join(t.TempDir(), "absent.db"))
	if r := f.give(t, "x"); r.status != 400 || !strings.Contains(r.errors(), "not initialized") {
		t.Errorf("no store: %s", r.text)
	}
}

// After people have opened the keep, a new seal gets its slot, and the keep is
// automatic again. The recipients of the configuration are taken over, too.
func TestAutomaticAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, _, shares := orphan(t, 3, 2)
		fresh, id := newSeal("fresh", 1), newIdentity(t)
		f := start(t, path, fresh)
		f.SetRecovery([]string{id.Recipient().String()}, false)
		for _, share := range shares[:2] {
			f.give(t, share)
		}
		if f.Status().Sealed {
			t.Fatal("the shares did not open the keep")
		}
		time.Sleep(time.Minute)
		if got := f.slot(t, "fresh"); got.State != SlotReady {
			t.Fatalf("the new slot: %+v", got)
		}
		if got := f.slot(t, ageSlot); got.State != SlotRecovery || got.KeyID != id.Recipient().String() {
			t.Fatalf("the slot of the recipients: %+v", got)
		}
		commits := f.store.Stats().Commits
		if err := f.reconcileRecovery(t.Context()); err != nil || f.store.Stats().Commits != commits {
			t.Errorf("nothing to do, but %d commits more, %v", f.store.Stats().Commits-commits, err)
		}
		other := newIdentity(t).Recipient().String()
		f.SetRecovery([]string{id.Recipient().String(), other}, false)
		if err := f.reconcileRecovery(t.Context()); err != nil || f.store.Stats().Commits != commits+1 {
			t.Errorf("another recipient: %d commits, %v", f.store.Stats().Commits-commits, err)
		}
		f.SetRecovery(nil, false)
		if err := f.reconcileRecovery(t.Context()); err != nil || f.slot(t, ageSlot).KeyID != recipientsID([]string{other, id.Recipient().String()}) {
			t.Errorf("no recipients any more: %+v %v", f.slot(t, ageSlot), err)
		}
		f.stop(t)

		f = start(t, path, fresh.again())
		f.openWithin(t, time.Second)
		f.stop(t)
		f = start(t, path)
		if r := f.call(t, "PUT", "sys/unseal", `{"identity":"`+id.String()+`"}`); r.get("sealed") != false {
			t.Errorf("identity: %s", r.text)
		}
	})
}

// Configured without any seal, a keep is made that only people open.
func TestPeopleOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	f := start(t, path)
	if r := f.call(t, "PUT", "sys/init", `{"recovery_shares":0}`); r.status != 400 || !strings.Contains(r.errors(), "no enabled seal") {
		t.Errorf("nobody would open it: %s", r.text)
	}
	r := f.must(t, 200, "PUT", "sys/init", `{"recovery_shares":1,"recovery_threshold":1}`)
	if !strings.Contains(fmt.Sprint(r.get("warnings")), "waits until people open it") || f.Status().Sealed {
		t.Errorf("init: %s", r.text)
	}
	f.stop(t)
	f = start(t, path)
	if r := f.give(t, texts(r.get("recovery_keys"))[0]); r.get("sealed") != false {
		t.Errorf("the share: %s", r.text)
	}
}

// Shares, seals by request, reloads and questions come in any order and at once.
func TestPeopleAtOnce(t *testing.T) {
	path, root, shares := orphan(t, 3, 2)
	f := start(t, path)
	f.root = root
	var wait sync.WaitGroup
	opened := atomic.Int64{}
	for i := range 4 {
		wait.Go(func() {
			for n := range 50 {
				switch (i + n) % 4 {
				case 0:
					f.Server.Seal()
				case 1:
					f.SetSeals([]Seal{newSeal("other", 1)})
					f.give(t, "nonsense")
				default:
					if r := f.give(t, shares[(i+n)%3]); r.get("sealed") == false {
						opened.Add(1)
					}
					f.call(t, "PUT", "sys/recovery/verify", `{"key":"`+shares[n%3]+`"}`)
				}
				f.call(t, "GET", "sys/seal-status", "")
			}
		})
	}
	wait.Wait()
	f.Server.Seal()
	f.give(t, shares[0])
	if r := f.give(t, shares[2]); r.get("sealed") != false || opened.Load() == 0 {
		t.Errorf("at the end: %s; opened %d times before", r.text, opened.Load())
	}
}
