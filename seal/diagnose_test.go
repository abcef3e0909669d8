package seal

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// steps diagnoses, and wants every step to be whole and none to show a secret.
func steps(t *testing.T, s *Seal, hidden ...string) []Step {
	t.Helper()
	all := s.Diagnose(soon(t))
	if len(all) == 0 {
		t.Fatal("no steps")
	}
	for _, step := range all {
		text, err := json.Marshal(step)
		if err != nil {
			t.Fatal(err)
		}
		if step.Name == "" || step.Text == "" || step.OK != (step.Class == "") || (step.Next == "") != (step.OK && !step.Warning) || strings.Contains(step.Text, "\n") {
			t.Errorf("half a step: %s", text)
		}
		for _, h := range append(hidden, secretKey, sessionToken) {
			if strings.Contains(string(text), h) {
				t.Errorf("%q is shown: %s", h, text)
			}
		}
	}
	return all
}

// brief is steps in one line: their names, with ! for a failure and its class, ? for a warning.
func brief(all []Step) string {
	var out []string
	for _, s := range all {
		switch {
		case !s.OK:
			out = append(out, s.Name+"!"+s.Class)
		case s.Warning:
			out = append(out, s.Name+"?")
		default:
			out = append(out, s.Name)
		}
	}
	return strings.Join(out, " ")
}

func step(t *testing.T, all []Step, name string) Step {
	t.Helper()
	i := slices.IndexFunc(all, func(s Step) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no step %s in %s", name, brief(all))
	}
	return all[i]
}

func TestDiagnoseAWS(t *testing.T) {
	k := newKMS(t)
	good := func(more ...string) *Seal {
		return make1(t, block("awskms", "aws", append([]string{"kms_key_id", "alias/main", "region", "eu-central-1", "endpoint", k.URL, "access_key", accessKey, "secret_key", secretKey}, more...)...))
	}
	const fine = "credentials region connection clock kms:DescribeKey kms:Encrypt kms:Decrypt"
	denied := func(op string) sealtest.Fault {
		return sealtest.Fault{Op: op, Status: 400, Code: "AccessDeniedException", Message: "User: arn:aws:iam::111122223333:user/keep is not authorized to perform: kms:" + op + " on resource: " + keyA}
	}
	all := steps(t, good())
	if got := brief(all); got != fine {
		t.Errorf("got %s", got)
	}
	if s := step(t, all, "credentials"); !strings.Contains(s.Text, accessKey) || !strings.Contains(s.Text, "the seal block") || !strings.Contains(s.Text, "test.hcl:2") {
		t.Errorf("%+v", s)
	}
	if s := step(t, all, "region"); s.Text != "eu-central-1 (test.hcl:2); KMS is at "+k.URL+" (test.hcl:2)" {
		t.Errorf("%+v", s)
	}
	if s := step(t, all, "kms:DescribeKey"); !strings.Contains(s.Text, keyA) {
		t.Errorf("%+v", s)
	}
	for _, p := range k.Plaintexts() {
		if len(p) != keySize {
			t.Errorf("KMS saw %q", p)
		}
	}

	for name, c := range map[string]struct {
		before func()
		seal   func() *Seal
		want   string
		allows []string // the actions to paste
	}{
		"session token": {nil, func() *Seal { return good("session_token", sessionToken) }, "credentials? region connection clock kms:DescribeKey kms:Encrypt kms:Decrypt", nil},
		"may not describe": {func() { k.Fail(denied("DescribeKey")) }, nil,
			"credentials region connection clock kms:DescribeKey!auth_denied kms:Encrypt kms:Decrypt", []string{"kms:DescribeKey"}},
		"may not encrypt": {func() { k.Fail(denied("Encrypt")) }, nil,
			"credentials region connection clock kms:DescribeKey kms:Encrypt!auth_denied kms:Decrypt", []string{"kms:Encrypt"}},
		"may nothing": {func() { k.Fail(denied("DescribeKey")); k.Fail(denied("Encrypt")); k.Fail(denied("Decrypt")) }, nil,
			"credentials region connection clock kms:DescribeKey!auth_denied kms:Encrypt!auth_denied kms:Decrypt!auth_denied", []string{"kms:DescribeKey", "kms:Encrypt", "kms:Decrypt"}},
		"disabled": {func() { k.SetState(keyA, "Disabled", time.Time{}) }, nil,
			"credentials region connection clock kms:DescribeKey!key_disabled kms:Encrypt!key_disabled kms:Decrypt!key_disabled", nil},
		"going": {func() { k.SetState(keyA, "PendingDeletion", time.Now().Add(73*time.Hour)) }, nil,
			"credentials region connection clock kms:DescribeKey!key_pending_deletion kms:Encrypt!key_disabled kms:Decrypt!key_disabled", nil},
		"material expires": {func() { k.SetValidTo(keyA, time.Now().Add(73*time.Hour)) }, nil,
			"credentials region connection clock kms:DescribeKey? kms:Encrypt kms:Decrypt", nil},
		"expired":         {func() { k.Fail(sealtest.Fault{Status: 400, Code: "ExpiredTokenException"}) }, nil, "credentials region connection clock kms:DescribeKey!credentials_expired kms:Encrypt!credentials_expired kms:Decrypt!credentials_expired", nil},
		"no such key":     {nil, func() *Seal { return good("kms_key_id", "alias/nothing") }, "credentials region connection clock kms:DescribeKey!key_not_found kms:Encrypt!key_not_found kms:Decrypt!key_not_found", nil},
		"wrong plaintext": {func() { k.Fail(sealtest.Fault{Op: "Decrypt", WrongPlaintext: true}) }, nil, "credentials region connection clock kms:DescribeKey kms:Encrypt kms:Decrypt!blob_mismatch", nil},
		"wrong key":       {func() { k.Fail(sealtest.Fault{Op: "Encrypt", KeyID: keyB}) }, nil, "credentials region connection clock kms:DescribeKey kms:Encrypt!blob_mismatch kms:Decrypt!blob_mismatch", nil},
		"broken":          {func() { k.Fail(sealtest.Fault{Status: 500, Code: "KMSInternalException"}) }, nil, "credentials region connection clock kms:DescribeKey!unreachable", nil},
		"stopped":         {k.Stop, nil, "credentials region connection!unreachable", nil},
		"no such host":    {nil, func() *Seal { return good("endpoint", noName) }, "credentials region connection!dns", nil},
		"TLS to a plain":  {nil, func() *Seal { return good("endpoint", strings.Replace(k.URL, "http:", "https:", 1)) }, "credentials region connection!tls", nil},
		"no credentials":  {nil, func() *Seal { return make1(t, block("awskms", "aws", "kms_key_id", keyA, "endpoint", k.URL)) }, "credentials!credentials_missing", nil},
		"no such CA file": {func() { t.Setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem") }, nil, "credentials!tls", nil},
	} {
		if c.before != nil {
			c.before()
		}
		s := good()
		if c.seal != nil {
			s = c.seal()
		}
		all := steps(t, s)
		k.Start()
		k.Heal()
		k.SetState(keyA, "Enabled", time.Time{})
		k.SetValidTo(keyA, time.Time{})
		os.Unsetenv("AWS_CA_BUNDLE")
		if got := brief(all); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
		var actions []string
		for _, s := range all {
			for _, p := range s.Paste {
				var st struct {
					Action    []string
					Resource  string
					Principal map[string]string
				}
				if err := json.Unmarshal([]byte(p.Text), &st); err != nil {
					t.Errorf("%s: %v in %s", name, err, p.Text)
				}
				if st.Principal == nil && st.Resource != keyA || st.Principal != nil && st.Principal["AWS"] != "arn:aws:iam::111122223333:user/keep" {
					t.Errorf("%s: %s", name, p.Text)
				}
				if st.Principal == nil {
					actions = append(actions, st.Action...)
				}
			}
		}
		if !slices.Equal(actions, c.allows) {
			t.Errorf("%s: to paste: %q", name, actions)
		}
	}
}

// Where the credentials and the region came from.
func TestDiagnoseAWSSources(t *testing.T) {
	k := newKMS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	all := steps(t, make1(t, block("awskms", "aws", "kms_key_id", keyA, "endpoint", k.URL)))
	if s := step(t, all, "credentials"); !strings.Contains(s.Text, "of the environment (AWS_ACCESS_KEY_ID)") {
		t.Errorf("%+v", s)
	}
	if s := step(t, all, "region"); !strings.HasPrefix(s.Text, "eu-central-1 (the key's ARN)") {
		t.Errorf("%+v", s)
	}
	os.Unsetenv("AWS_ACCESS_KEY_ID")
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("[profile ops]\nregion = eu-central-1\naws_access_key_id = "+accessKey+"\naws_secret_access_key = "+secretKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_PROFILE", "ops")
	all = steps(t, make1(t, block("awskms", "aws", "kms_key_id", "alias/main", "endpoint", k.URL)))
	if s := step(t, all, "credentials"); !strings.Contains(s.Text, "of the profile in "+file) {
		t.Errorf("%+v", s)
	}
	if s := step(t, all, "region"); !strings.Contains(s.Text, "profile") {
		t.Errorf("%+v", s)
	}
	if err := os.WriteFile(file, []byte("[profile ops]\nregion = eu-central-1\nendpoint_url = "+k.URL+"\naws_access_key_id = "+accessKey+"\naws_secret_access_key = "+secretKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all = steps(t, make1(t, block("awskms", "aws", "kms_key_id", "alias/main")))
	if s := step(t, all, "region"); s.Text != "eu-central-1 (the profile or the instance); KMS is at "+k.URL+" (the profile)" {
		t.Errorf("%+v", s)
	}
	if s := step(t, all, "connection"); !s.OK || !strings.Contains(s.Text, k.URL) {
		t.Errorf("%+v", s)
	}
	process := `{"Version": 1, "AccessKeyId": "` + accessKey + `", "SecretAccessKey": "` + secretKey + `", "SessionToken": "` + sessionToken + `", "Expiration": "2031-02-03T04:05:06Z"}`
	script := filepath.Join(t.TempDir(), "process")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho '"+process+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("[profile ops]\nregion = eu-central-1\ncredential_process = "+script+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all = steps(t, make1(t, block("awskms", "aws", "kms_key_id", "alias/main", "endpoint", k.URL)))
	if s := step(t, all, "credentials"); !strings.Contains(s.Text, "a credential_process") || !strings.Contains(s.Text, "renewed at 2031-02-03T04:04:06Z") {
		t.Errorf("%+v", s)
	}
}

func TestDiagnoseVault(t *testing.T) {
	s := newKVServer(t)
	s.AddKey("autounseal")
	s.AllowAccount("the-service-account", "keep")
	forbid := func(ops ...string) func() {
		return func() {
			for _, op := range ops {
				s.Fail(sealtest.Fault{Op: op, Status: http.StatusForbidden, Message: "permission denied"})
			}
		}
	}
	const head = "connection clock server token"
	for name, c := range map[string]struct {
		before      func()
		transit, kv string
		next        string // of what failed last
	}{
		"fine":             {nil, head + " encrypt decrypt", head + " read", ""},
		"not periodic":     {func() { s.SetLookup(map[string]any{"period": 0}) }, head + "? encrypt decrypt", head + "? read", ""},
		"root":             {func() { s.SetLookup(map[string]any{"ttl": 0, "policies": []string{"root"}}) }, head + "? encrypt decrypt", head + "? read", ""},
		"no look-up":       {forbid("lookup-self"), head + "? encrypt decrypt", head + "? read", ""},
		"policy lacks all": {forbid("encrypt", "decrypt", "read"), head + " encrypt!auth_denied decrypt!auth_denied", head + " read!auth_denied", "knows the token"},
		"revoked":          {func() { s.SetTTL(-1, 0) }, head + "? encrypt!auth_denied decrypt!auth_denied", head + "? read!auth_denied", "make a new one"},
		"may not decrypt":  {forbid("decrypt"), head + " encrypt decrypt!auth_denied", head + " read", "knows the token"},
		"may not encrypt":  {forbid("encrypt"), head + " encrypt!auth_denied decrypt", head + " read", "knows the token"},
		"sealed":           {func() { s.SetSealed(true) }, "connection clock server!unreachable", "connection clock server!unreachable", ""},
		"stopped":          {s.Stop, "connection!unreachable", "connection!unreachable", ""},
		"throttled":        {func() { s.Fail(sealtest.Fault{Status: 429}) }, "connection clock server? token!throttled encrypt!throttled decrypt!throttled", "connection clock server? token!throttled read!throttled", ""},
		"wrong plaintext":  {func() { s.Fail(sealtest.Fault{Op: "decrypt", WrongPlaintext: true}) }, head + " encrypt decrypt!blob_mismatch", head + " read", ""},
		"wrong clock":      {func() { s.Fail(sealtest.Fault{Op: "seal-status", Skew: time.Hour}) }, "connection clock? server token encrypt decrypt", "connection clock? server token read", ""},
		"deleted":          {func() { s.Delete("keep", 1, time.Now().Add(-time.Hour)) }, head + " encrypt decrypt", head + " read!key_disabled", ""},
		"deleted soon":     {func() { s.Delete("keep", 1, time.Now().Add(73*time.Hour)) }, head + " encrypt decrypt", head + " read?", ""},
	} {
		if c.before != nil {
			c.before()
		}
		for typ, want := range map[string]string{"transit": c.transit, "vaultkv": c.kv} {
			seal := kvBlock(t, s)
			if typ == "transit" {
				seal = transitBlock(t, s)
			}
			all := steps(t, seal, s.Token)
			if got := brief(all); got != want {
				t.Errorf("%s, %s: got\n%s\nwant\n%s", name, typ, got, want)
			}
			if last := all[len(all)-1]; strings.Contains(want, "auth_denied") {
				if i := slices.IndexFunc(all, func(s Step) bool { return s.Paste != nil && !s.OK }); i >= 0 {
					last = all[i]
				}
				if !strings.Contains(last.Next, c.next) || len(last.Paste) != 1 || !strings.Contains(last.Paste[0].Text, "capabilities = [\"") {
					t.Errorf("%s, %s: %+v", name, typ, last)
				}
			}
		}
		s.Start()
		s.Heal()
		s.SetSealed(false)
		s.SetTTL(0, 0)
		s.SetLookup(nil)
		s.Delete("keep", 1, time.Time{})
	}

	kube, file := kubeBlock(t, s, "vaultkv")
	if got := brief(steps(t, kube, s.Token, "the-service-account")); got != "connection clock server login token read" {
		t.Errorf("a login: %s", got)
	}
	if err := os.WriteFile(file, []byte("another-account"), 0o600); err != nil {
		t.Fatal(err)
	}
	kube = make1(t, kube.config)
	if got := brief(steps(t, kube, s.Token, "another-account")); got != "connection clock server login!auth_denied" {
		t.Errorf("a login that is refused: %s", got)
	}

	portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer portal.Close()
	if got := brief(steps(t, transitBlock(t, s, "address", portal.URL))); !strings.HasPrefix(got, "connection clock server?") {
		t.Errorf("a web page: %s", got)
	}
}

func TestDiagnoseTransit(t *testing.T) {
	onHubs(t, func(t *testing.T, h hub) {
		const head = "connection clock server token"
		for name, c := range map[string]struct {
			life   life
			before func(token string)
			want   string
		}{
			"fine":             {want: head + " encrypt decrypt"},
			"not periodic":     {life: life{ttl: time.Hour, max: 2 * time.Hour}, want: head + "? encrypt decrypt"},
			"not renewable":    {life: life{ttl: time.Hour, unrenewable: true}, want: head + "? encrypt decrypt"},
			"no look-up":       {life: life{denied: []string{"lookup-self"}}, want: head + "? encrypt decrypt"},
			"policy lacks all": {life: life{denied: []string{"encrypt", "decrypt"}}, want: head + " encrypt!auth_denied decrypt!auth_denied"},
			"may not decrypt":  {life: life{denied: []string{"decrypt"}}, want: head + " encrypt decrypt!auth_denied"},
			"may not encrypt":  {life: life{denied: []string{"encrypt"}}, want: head + " encrypt!auth_denied decrypt"},
			"revoked":          {before: h.revoke, want: head + "? encrypt!auth_denied decrypt!auth_denied"},
			"sealed":           {before: func(string) { h.SetSealed(true) }, want: "connection clock server!unreachable"},
			"stopped":          {before: func(string) { h.Stop() }, want: "connection!unreachable"},
		} {
			token := h.token(c.life)
			seal := hubBlock(t, h, token)
			if c.before != nil {
				c.before(token)
			}
			if got := brief(steps(t, seal, token)); got != c.want {
				t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
			}
			h.Start()
			h.SetSealed(false)
		}
	})
}

// What is told of a certificate: whose it is, who issued it and when it ends, also when it is not trusted.
func TestDiagnoseTLS(t *testing.T) {
	s := newKVServer(t)
	server := httptest.NewTLSServer(s)
	server.Config.ErrorLog = quiet
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	ends := server.Certificate().NotAfter.UTC().Format(time.DateOnly)
	for name, c := range map[string]struct {
		params []string
		want   Step
		words  []string
	}{
		"trusted":      {[]string{"tls_ca_cert", ca}, Step{OK: true}, []string{"TLS 1.3", "example.com", "issued by", ends}},
		"not trusted":  {nil, Step{Class: string(TLS)}, []string{"The server shows a certificate of", "issued by O=Acme Co", ends}},
		"not verified": {[]string{"tls_skip_verify", "true"}, Step{OK: true, Warning: true}, []string{"nobody verified it", ends}},
	} {
		got := step(t, steps(t, kvBlock(t, s, append([]string{"address", server.URL}, c.params...)...)), "connection")
		if got.OK != c.want.OK || got.Warning != c.want.Warning || got.Class != c.want.Class {
			t.Errorf("%s: %+v", name, got)
		}
		for _, w := range c.words {
			if !strings.Contains(got.Text, w) {
				t.Errorf("%s: it does not say %q: %s", name, w, got.Text)
			}
		}
	}
}

// It returns soon after the end of its context, with what it has.
func TestDiagnoseEnds(t *testing.T) {
	k := newKMS(t)
	s := newKVServer(t)
	s.AddKey("autounseal")
	k.Fail(sealtest.Fault{Stall: true})
	s.Fail(sealtest.Fault{Stall: true})
	for _, seal := range []*Seal{awsBlock(k, keyA), kvBlock(t, s), transitBlock(t, s)} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		began := time.Now()
		all := seal.Diagnose(ctx)
		cancel()
		if last := all[len(all)-1]; last.Class != string(Unreachable) || time.Since(began) > 3*time.Second {
			t.Errorf("%s: after %v: %s", seal.Type(), time.Since(began), brief(all))
		}
	}
	static := make1(t, block("static", "s", "current_key", strings.Repeat("0", 64), "current_key_id", "new", "previous_key", strings.Repeat("1", 64), "previous_key_id", "old"))
	if all := steps(t, static, strings.Repeat("0", 64)); brief(all) != "key" || !strings.Contains(all[0].Text, `"new"`) || !strings.Contains(all[0].Text, `"old"`) {
		t.Errorf("%+v", all)
	}
}
