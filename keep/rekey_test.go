package keep_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	vault "github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// A drill opens the slot as it stands in the file, and changes nothing but its date.
func TestDrill(t *testing.T) {
	path, root, shares := orphan(t, 3, 2)
	id := newIdentity(t)
	f := start(t, path)
	f.Root = root
	f.Must(t, 503, "PUT", "sys/recovery/verify", `{}`)
	for _, share := range shares[:2] {
		f.give(t, share)
	}
	f.SetRecovery([]string{id.Recipient().String()}, false)
	if err := f.ReconcileRecovery(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Must(t, 403, "PUT", "sys/recovery/verify", `{}`, "X-Vault-Token: wrong")
	if r := f.Call(t, "PUT", "sys/recovery/verify", `{}`); r.Status != 400 || !strings.Contains(r.Errors(), "send a recovery share") {
		t.Errorf("nothing: %s", r.Text)
	}
	before := f.Store().Stats().Updates
	r := f.Must(t, 200, "PUT", "sys/recovery/verify", `{"key":"`+shares[2]+`"}`)
	if line(r.Get("data", "progress"), r.Get("data", "required"), r.Get("data", "complete")) != "1 2 false" {
		t.Errorf("first share: %s", r.Text)
	}
	if r := f.Call(t, "PUT", "sys/recovery/verify", `{"key":"`+shares[2]+`"}`); r.Status != 400 || !strings.Contains(r.Errors(), "given before") {
		t.Errorf("repeated: %s", r.Text)
	}
	f.Must(t, 200, "PUT", "sys/recovery/verify", `{"reset":true}`)
	f.Must(t, 200, "PUT", "sys/recovery/verify", `{"key":"`+shares[2]+`"}`)
	if r := f.Must(t, 200, "PUT", "sys/recovery/verify", `{"key":"`+shares[0]+`"}`); r.Get("data", "complete") != true {
		t.Errorf("last share: %s", r.Text)
	}
	if n := f.Store().Stats().Updates - before; n != 1 {
		t.Errorf("%d updates", n)
	}
	if f.Slot(t, keep.SharesSlot).Verified.IsZero() || !f.Slot(t, keep.AgeSlot).Verified.IsZero() {
		t.Errorf("slots: %+v", f.Status().Slots)
	}
	if r := f.Must(t, 200, "PUT", "sys/recovery/verify", `{"identity":"`+id.String()+`"}`); r.Get("data", "complete") != true || len(r.Get("data", "slots").([]any)) != 2 {
		t.Errorf("identity: %s", r.Text)
	}
	if f.Slot(t, keep.AgeSlot).Verified.IsZero() {
		t.Errorf("slots: %+v", f.Status().Slots)
	}
	f.Stop(t)
	f = start(t, path) // it is remembered
	f.Root = root
	f.Call(t, "PUT", "sys/unseal", `{"identity":"`+id.String()+`"}`)
	if f.Slot(t, keep.SharesSlot).Verified.IsZero() {
		t.Error("the drill was forgotten")
	}
	// Other recipients have never been tried.
	f.SetRecovery([]string{newIdentity(t).Recipient().String()}, false)
	if err := f.ReconcileRecovery(t.Context()); err != nil || !f.Slot(t, keep.NewAgeName).Verified.IsZero() {
		t.Errorf("slot: %+v %v", f.Slot(t, keep.NewAgeName), err)
	}
}

// The whole life of shares, with Vault's own client: init, unseal, rekey, unseal
// with the new ones, a root token.
func TestVaultClientRecovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	f := start(t, path, servertest.NewSeal("gone", 1))
	c := f.Client(t)
	made, err := c.Sys().Init(&vault.InitRequest{RecoveryShares: 3, RecoveryThreshold: 2})
	if err != nil || len(made.RecoveryKeysB64) != 3 || len(made.RecoveryKeys) != 3 {
		t.Fatalf("init: %+v %v", made, err)
	}
	f.Stop(t)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	f = start(t, path)
	c = f.Client(t)
	c.SetToken(made.RootToken)
	st, err := c.Sys().Unseal(made.RecoveryKeys[0])
	if err != nil || !st.Sealed || st.T != 2 || st.N != 3 || st.Progress != 1 || st.Nonce == "" || !st.RecoverySeal || st.RecoverySealType != "shamir" {
		t.Fatalf("unseal: %+v %v", st, err)
	}
	if st, err = c.Sys().ResetUnsealProcess(); err != nil || st.Progress != 0 {
		t.Fatalf("reset: %+v %v", st, err)
	}
	for _, share := range made.RecoveryKeysB64[1:] {
		if st, err = c.Sys().Unseal(share); err != nil {
			t.Fatal(err)
		}
	}
	if st.Sealed {
		t.Fatalf("unseal: %+v", st)
	}

	// New shares.
	if rs, err := c.Sys().RekeyRecoveryKeyStatus(); err != nil || rs.Started || rs.Required != 2 {
		t.Errorf("status: %+v %v", rs, err)
	}
	if _, err := c.Sys().RekeyRecoveryKeyUpdate(made.RecoveryKeysB64[0], ""); err == nil || !strings.Contains(err.Error(), "no new shares are being made") {
		t.Errorf("update without init: %v", err)
	}
	for _, in := range []*vault.RekeyInitRequest{{SecretShares: 2, SecretThreshold: 3}, {SecretShares: 2, SecretThreshold: 2, PGPKeys: []string{"x", "y"}}} {
		if _, err := c.Sys().RekeyRecoveryKeyInit(in); err == nil || !strings.Contains(err.Error(), "Code: 400") {
			t.Errorf("%+v: %v", in, err)
		}
	}
	rs, err := c.Sys().RekeyRecoveryKeyInit(&vault.RekeyInitRequest{SecretShares: 4, SecretThreshold: 1, RequireVerification: true})
	if err != nil || !rs.Started || !rs.VerificationRequired || rs.N != 4 || rs.T != 1 || rs.Required != 2 || rs.Nonce == "" {
		t.Fatalf("init: %+v %v", rs, err)
	}
	if _, err := c.Sys().RekeyRecoveryKeyInit(&vault.RekeyInitRequest{SecretShares: 4, SecretThreshold: 1}); err == nil {
		t.Error("two at once")
	}
	if _, err := c.Sys().RekeyRecoveryKeyUpdate(made.RecoveryKeysB64[0], "other"); err == nil || !strings.Contains(err.Error(), "incorrect nonce") {
		t.Errorf("another nonce: %v", err)
	}
	if err := c.Sys().RekeyRecoveryKeyCancel(); err != nil {
		t.Error(err)
	}
	if rs, err = c.Sys().RekeyRecoveryKeyInit(&vault.RekeyInitRequest{SecretShares: 4, SecretThreshold: 1}); err != nil {
		t.Fatal(err)
	}
	commits := f.Store().Stats().Commits
	up, err := c.Sys().RekeyRecoveryKeyUpdate(made.RecoveryKeysB64[0], rs.Nonce)
	if err != nil || up.Complete {
		t.Fatalf("first share: %+v %v", up, err)
	}
	if rs, err := c.Sys().RekeyRecoveryKeyStatus(); err != nil || rs.Progress != 1 {
		t.Errorf("status: %+v %v", rs, err)
	}
	if up, err = c.Sys().RekeyRecoveryKeyUpdate(made.RecoveryKeysB64[2], rs.Nonce); err != nil || !up.Complete || len(up.KeysB64) != 4 || len(up.Keys) != 4 {
		t.Fatalf("last share: %+v %v", up, err)
	}
	if n := f.Store().Stats().Commits - commits; n != 1 {
		t.Errorf("%d commits", n)
	}
	if !up.VerificationRequired || up.VerificationNonce == "" {
		t.Errorf("last share: %+v", up)
	}
	if st, err := c.Sys().SealStatus(); err != nil || st.N != 3 || st.T != 2 { // the old ones count still
		t.Errorf("status: %+v %v", st, err)
	}

	// The new shares are given back: then the old ones end.
	vs, err := c.Sys().RekeyRecoveryKeyVerificationStatus()
	if err != nil || !vs.Started || vs.Nonce != up.VerificationNonce || vs.N != 4 || vs.T != 1 || vs.Progress != 0 {
		t.Errorf("verification: %+v %v", vs, err)
	}
	if err := c.Sys().RekeyRecoveryKeyVerificationCancel(); err != nil {
		t.Error(err)
	}
	if vs, err = c.Sys().RekeyRecoveryKeyVerificationStatus(); err != nil || vs.Nonce == up.VerificationNonce {
		t.Errorf("verification, begun anew: %+v %v", vs, err)
	}
	if _, err := c.Sys().RekeyRecoveryKeyVerificationUpdate(up.KeysB64[0], up.VerificationNonce); err == nil || !strings.Contains(err.Error(), "incorrect nonce") {
		t.Errorf("another nonce: %v", err)
	}
	if _, err := c.Sys().RekeyRecoveryKeyVerificationUpdate(made.RecoveryKeysB64[0], vs.Nonce); err == nil || !strings.Contains(err.Error(), "look for the 4 shares of set") {
		t.Errorf("an old share: %v", err)
	}
	if back, err := c.Sys().RekeyRecoveryKeyVerificationUpdate(up.KeysB64[0], vs.Nonce); err != nil || !back.Complete {
		t.Errorf("a new share: %+v %v", back, err)
	}
	if _, err := c.Sys().RekeyRecoveryKeyVerificationStatus(); err == nil || !strings.Contains(err.Error(), "no new recovery shares wait") {
		t.Errorf("verification is over: %v", err)
	}
	if st, err := c.Sys().SealStatus(); err != nil || st.N != 4 || st.T != 1 {
		t.Errorf("status: %+v %v", st, err)
	}

	// A root token: off, then with the new shares.
	if _, err := c.Sys().GenerateRootInit("", ""); err == nil || !strings.Contains(err.Error(), "enable_generate_root") {
		t.Errorf("off: %v", err)
	}
	f.SetRecovery(nil, true)
	lost := c.Token()
	c.ClearToken()
	if _, err := c.Sys().GenerateRootInit("short", ""); err == nil {
		t.Error("a short otp was taken")
	}
	gr, err := c.Sys().GenerateRootInit("", "")
	if err != nil || !gr.Started || gr.Required != 1 || len(gr.OTP) != gr.OTPLength {
		t.Fatalf("init: %+v %v", gr, err)
	}
	if again, err := c.Sys().GenerateRootStatus(); err != nil || again.OTP != "" || again.Nonce != gr.Nonce {
		t.Errorf("status: %+v %v", again, err)
	}
	if err := c.Sys().GenerateRootCancel(); err != nil {
		t.Error(err)
	}
	if gr, err = c.Sys().GenerateRootInit("", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sys().GenerateRootUpdate(made.RecoveryKeysB64[0], gr.Nonce); err == nil || !strings.Contains(err.Error(), "replaced by a newer one") {
		t.Errorf("an old share: %v", err)
	}
	end, err := c.Sys().GenerateRootUpdate(up.KeysB64[3], gr.Nonce)
	if err != nil || !end.Complete || end.EncodedToken == "" || end.EncodedToken != end.EncodedRootToken {
		t.Fatalf("update: %+v %v", end, err)
	}
	r := f.Must(t, 200, "PUT", "sys/decode-token", `{"encoded_token":"`+end.EncodedToken+`","otp":"`+gr.OTP+`"}`)
	token := r.Get("data", "token").(string)
	if token == lost || !strings.HasPrefix(token, "hvs.") {
		t.Errorf("token %q", token)
	}
	c.SetToken(token)
	if self, err := c.Auth().Token().LookupSelf(); err != nil {
		t.Errorf("the new root token: %+v %v", self, err)
	}
	if n := strings.Count(f.Log.String(), "a root token was made"); n != 1 || strings.Contains(f.Log.String(), token) {
		t.Errorf("%d lines in the log", n)
	}
	f.Stop(t)

	// Of this file only the new shares open; of the older copy only the old ones.
	for file, test := range map[string]struct{ good, bad []string }{
		path:          {up.KeysB64[:1], made.RecoveryKeysB64[:1]},
		write(t, old): {made.RecoveryKeysB64[:2], up.KeysB64[:1]},
	} {
		f := start(t, file)
		for _, share := range test.bad {
			if r := f.give(t, share); r.Status != 400 || !strings.Contains(r.Errors(), "another store, or of a set that was replaced") {
				t.Errorf("a share of the other set: %s", r.Text)
			}
		}
		for _, share := range test.good {
			f.give(t, share)
		}
		if f.Status().Sealed {
			t.Errorf("%s did not open", file)
		}
	}
}

func write(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A keep without shares gets them from the bearer of the root token alone; an
// identity may stand in for lost shares.
func TestFirstShares(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	seal, id := servertest.NewSeal("a", 1), newIdentity(t)
	f := start(t, path, seal)
	f.SetRecovery([]string{id.Recipient().String()}, false)
	f.Root = f.Must(t, 200, "PUT", "sys/init", `{}`).Get("root_token").(string)
	f.Must(t, 403, "POST", "sys/rotate/recovery/init", `{}`, "X-Vault-Token: wrong")
	r := f.Must(t, 200, "POST", "sys/rotate/recovery/init", `{"secret_shares":2,"secret_threshold":2}`)
	first := texts(r.Get("data", "keys_base64"))
	if r.Get("data", "complete") != true || len(first) != 2 || r.Get("data", "verification_required") != false {
		t.Fatalf("first shares: %s", r.Text)
	}
	r = f.Must(t, 200, "POST", "sys/rotate/recovery/init", `{}`)
	if r.Get("data", "started") != true || r.Get("data", "complete") == true {
		t.Fatalf("second time: %s", r.Text)
	}
	r = f.Must(t, 200, "POST", "sys/rotate/recovery/update", `{"identity":"`+id.String()+`","nonce":"`+r.Get("data", "nonce").(string)+`"}`)
	second := texts(r.Get("data", "keys_base64"))
	if len(second) != 5 {
		t.Fatalf("with an identity: %s", r.Text)
	}
	// Called off, nothing has changed.
	f.Must(t, 200, "POST", "sys/rotate/recovery/init", `{"secret_shares":1,"secret_threshold":1}`)
	f.Must(t, 204, "DELETE", "sys/rotate/recovery/init", ``)
	if r := f.Must(t, 200, "GET", "sys/rotate/recovery/init", ""); r.Get("data", "started") != false || r.Get("data", "verification_required") != false {
		t.Errorf("called off: %s", r.Text)
	}
	f.Stop(t)
	f = start(t, path)
	if r := f.give(t, second[0]); r.Status != 400 {
		t.Errorf("a share that was taken away: %s", r.Text)
	}
	for i, share := range first {
		if r := f.give(t, share); r.Get("sealed") != (i < 1) {
			t.Errorf("share %d: %s", i, r.Text)
		}
	}
}

// Clients of Vault look for new shares in the answer to the last old one.
func TestRekeyOfAKeepWithoutSharesIsRefusedOnVaultsRoute(t *testing.T) {
	f := fresh(t)
	r := f.Call(t, "PUT", "sys/rekey-recovery-key/init", `{"secret_shares":2,"secret_threshold":2}`)
	if r.Status != 400 || !strings.Contains(r.Errors(), "sealkeep operator rekey -init") || strings.Contains(r.Text, "keys") && r.Get("data") != nil {
		t.Errorf("%d %s", r.Status, r.Text)
	}
	if st := f.Must(t, 200, "GET", "sys/seal-status", ""); line(st.Get("n")) != "0" {
		t.Errorf("status: %s", st.Text)
	}
	f.Must(t, 200, "POST", "sys/rotate/recovery/init", `{"secret_shares":2,"secret_threshold":2}`)
	if r := f.Must(t, 200, "PUT", "sys/rekey-recovery-key/init", `{}`); r.Get("data", "started") != true {
		t.Errorf("with shares: %s", r.Text)
	}
}

// Shares whose slot somebody has changed in the file open nothing: they are
// replaced without them, and the answer says so.
func TestSharesOfASpoiltSlotAreReplaced(t *testing.T) {
	path, seal := filepath.Join(t.TempDir(), "keep.db"), servertest.NewSeal("a", 1)
	f := start(t, path, seal)
	f.initShares(t, 1, 1)
	root := f.Root
	f.Stop(t)
	editSlot(t, path, keep.SharesSlot, func(slot *storage.Slot) { slot.Blob = slot.Blob[1:] })
	f = start(t, path, seal.Again())
	f.Root = root
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := f.Must(t, 200, "POST", "sys/rotate/recovery/init", `{"secret_shares":1,"secret_threshold":1}`)
	if w := fmt.Sprint(r.Get("warnings")); !strings.Contains(w, "find out who wrote to the file") || !f.opens(t, shareOf(texts(r.Get("data", "keys"))[0])) {
		t.Errorf("%s", r.Text)
	}
}

// A root token can be made by whoever has an age identity of the keep.
func TestGenerateRootWithIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	id := newIdentity(t)
	f := start(t, path, servertest.NewSeal("a", 1))
	f.SetRecovery([]string{id.Recipient().String()}, true)
	f.Must(t, 503, "PUT", "sys/generate-root/attempt", `{}`)
	f.Must(t, 200, "PUT", "sys/init", `{}`)
	otp := strings.Repeat("x", access.RandomToken)
	if r := f.Call(t, "PUT", "sys/generate-root/update", `{"identity":"`+id.String()+`"}`); r.Status != 400 || !strings.Contains(r.Errors(), "no root generation in progress") {
		t.Errorf("not begun: %s", r.Text)
	}
	r := f.Must(t, 200, "PUT", "sys/generate-root/attempt", `{"otp":"`+otp+`"}`)
	if line(r.Get("otp"), r.Get("required"), r.Get("started")) != "1 true" {
		t.Errorf("begun: %s", r.Text)
	}
	if r := f.Call(t, "PUT", "sys/generate-root/attempt", `{}`); r.Status != 400 || !strings.Contains(r.Errors(), "already in progress") {
		t.Errorf("again: %s", r.Text)
	}
	r = f.Must(t, 200, "PUT", "sys/generate-root/update", `{"identity":"`+id.String()+`","nonce":"`+r.Get("nonce").(string)+`"}`)
	b, err := base64.RawStdEncoding.DecodeString(r.Get("encoded_token").(string))
	if err != nil || r.Get("complete") != true {
		t.Fatalf("%v, %s", err, r.Text)
	}
	f.Root = string(keep.XOR(string(b), otp))
	f.Must(t, 200, "GET", "auth/token/lookup-self", "")
	f.SetRecovery(nil, false)
	f.Must(t, 403, "GET", "sys/generate-root/attempt", "")

	// Nobody can be asked.
	none := fresh(t)
	none.SetRecovery(nil, true)
	if r := none.Call(t, "PUT", "sys/generate-root/attempt", `{}`); r.Status != 400 || !strings.Contains(r.Errors(), "no recovery slot") {
		t.Errorf("no recovery slot: %s", r.Text)
	}
	for _, body := range []string{`{}`, `{"encoded_token":"!","otp":"a"}`, `{"encoded_token":"YWE","otp":"a"}`} {
		none.Must(t, 400, "PUT", "sys/decode-token", body)
	}
}
