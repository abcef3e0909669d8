package sys_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

const wrapMinute = "X-Vault-Wrap-TTL: 60"

// wrapped makes a request whose answer is wrapped and returns the wrapping token.
func (f *fixture) wrapped(t testing.TB, method, path, body string, headers ...string) string {
	t.Helper()
	r := f.Must(t, 200, method, path, body, append(headers, wrapMinute)...)
	if r.Get("data") != nil || r.Get("auth") != nil {
		t.Fatalf("the answer is not wrapped alone: %s", r.Text)
	}
	return r.Get("wrap_info", "token").(string)
}

// Every call of the official client about wrapping and the cubbyhole.
func TestWrappingByClient(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"s3cret","n":12345678901234567890}}`)
	c := f.Client(t)
	wrapping := f.Client(t)
	wrapping.SetWrappingLookupFunc(func(_, path string) string { return "90s" })

	s, err := wrapping.Logical().Read("secret/data/a")
	if err != nil || s.Data != nil || s.WrapInfo == nil || s.WrapInfo.TTL != 90 || s.WrapInfo.CreationPath != "secret/data/a" || s.WrapInfo.Accessor == "" ||
		s.WrapInfo.WrappedAccessor != "" || time.Since(s.WrapInfo.CreationTime).Abs() > time.Minute {
		t.Fatalf("%+v %v", s, err)
	}
	info, err := c.Logical().Write("sys/wrapping/lookup", map[string]any{"token": s.WrapInfo.Token})
	if err != nil || info.Data["creation_path"] != "secret/data/a" || fmt.Sprint(info.Data["creation_ttl"]) != "90" || info.Data["creation_time"] != s.WrapInfo.CreationTime.Format(time.RFC3339Nano) {
		t.Errorf("%+v %v", info, err)
	}
	seen, err := c.Auth().Token().LookupAccessor(s.WrapInfo.Accessor)
	if err != nil || !slices.Equal(seen.Data["policies"].([]any), []any{"response-wrapping"}) || fmt.Sprint(seen.Data["num_uses"]) != "1" || seen.Data["orphan"] != true ||
		seen.Data["display_name"] != "root" || seen.Data["path"] != "secret/data/a" {
		t.Errorf("%+v %v", seen, err)
	}
	// A third party with a token of its own; the numbers are as they were.
	got, err := c.Logical().Unwrap(s.WrapInfo.Token)
	if err != nil || got.WrapInfo != nil {
		t.Fatalf("%+v %v", got, err)
	}
	if data := got.Data["data"].(map[string]any); data["k"] != "s3cret" || fmt.Sprint(data["n"]) != "12345678901234567890" {
		t.Errorf("%v", data)
	}
	if _, err := c.Logical().Unwrap(s.WrapInfo.Token); err == nil || !strings.Contains(err.Error(), "400") || !strings.Contains(err.Error(), "wrapping token is not valid or does not exist") {
		t.Errorf("a second time: %v", err)
	}
	// The wrapping token by itself.
	s, err = wrapping.Auth().Token().Create(&vault.TokenCreateRequest{Policies: []string{"default"}, TTL: "1h"})
	if err != nil || s.Auth != nil || s.WrapInfo == nil || s.WrapInfo.WrappedAccessor == "" {
		t.Fatalf("%+v %v", s, err)
	}
	own := f.Client(t)
	own.SetToken(s.WrapInfo.Token)
	got, err = own.Logical().Unwrap("")
	if err != nil || got.Auth == nil || got.Auth.Accessor != s.WrapInfo.WrappedAccessor {
		t.Fatalf("%+v %v", got, err)
	}
	own.SetToken(got.Auth.ClientToken)
	if _, err := own.Auth().Token().LookupSelf(); err != nil {
		t.Error(err)
	}
	// Without any token; wrapped again by another on the way.
	s, err = c.Logical().Write("sys/wrapping/wrap", map[string]any{"k": "v"}) // for 5 minutes: the client's default
	if err != nil || s.WrapInfo.TTL != 300 {
		t.Fatalf("%+v %v", s, err)
	}
	again, err := c.Logical().Write("sys/wrapping/rewrap", map[string]any{"token": s.WrapInfo.Token})
	if err != nil || again.WrapInfo == nil || again.WrapInfo.TTL != 300 || again.WrapInfo.CreationPath != "sys/wrapping/wrap" || again.WrapInfo.Token == s.WrapInfo.Token {
		t.Fatalf("%+v %v", again, err)
	}
	own.ClearToken()
	if _, err := own.Logical().Unwrap(s.WrapInfo.Token); err == nil {
		t.Error("what was wrapped again is good yet")
	}
	own.ClearToken()
	if got, err = own.Logical().Unwrap(again.WrapInfo.Token); err != nil || got.Data["k"] != "v" {
		t.Errorf("%+v %v", got, err)
	}

	if _, err := c.Logical().Write("cubbyhole/a/b", map[string]any{"k": "v", "n": 1}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Logical().Read("cubbyhole/a/b"); err != nil || got.Data["k"] != "v" || fmt.Sprint(got.Data["n"]) != "1" {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := c.Logical().List("cubbyhole"); err != nil || !slices.Equal(got.Data["keys"].([]any), []any{"a/"}) {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := c.Logical().Delete("cubbyhole/a/b"); err != nil {
		t.Error(err)
	}
	if got, err := c.Logical().Read("cubbyhole/a/b"); err != nil || got != nil {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := c.Logical().List("cubbyhole"); err != nil || got != nil {
		t.Errorf("%+v %v", got, err)
	}
}

// What is wrapped, and what is not.
func TestWrappedAnswers(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"s3cret"}}`)
	plain := f.Must(t, 200, "GET", "secret/data/a", "")
	unwrap := func(token string) servertest.Reply {
		t.Helper()
		return f.Call(t, "POST", "sys/wrapping/unwrap", `{"token":"`+token+`"}`)
	}
	if r := unwrap(f.wrapped(t, "GET", "secret/data/a", "")); r.Status != 200 || fmt.Sprint(r.Get("data")) != fmt.Sprint(plain.Get("data")) || r.Get("wrap_info") != nil {
		t.Errorf("%d %s", r.Status, r.Text)
	}
	token := f.wrapped(t, "LIST", "secret/metadata", "")
	if r := f.Must(t, 200, "POST", "sys/wrapping/lookup", `{"token":"`+token+`"}`); r.Get("data", "creation_path") != "secret/metadata/" {
		t.Errorf("%s", r.Text)
	}
	if r := unwrap(token); fmt.Sprint(r.Get("data", "keys")) != "[a]" {
		t.Errorf("%s", r.Text)
	}
	if r := unwrap(f.wrapped(t, "GET", "sys/mounts", "")); r.Get("data", "secret/") == nil {
		t.Errorf("%s", r.Text)
	}
	if r := unwrap(f.wrapped(t, "POST", "secret/data/a", `{"data":{"k":"x"}}`)); fmt.Sprint(r.Get("data", "version")) != "2" {
		t.Errorf("%s", r.Text)
	}
	f.Must(t, 204, "DELETE", "secret/data/a", "", wrapMinute)
	if r := unwrap(f.wrapped(t, "GET", "secret/data/a", "")); r.Status != 404 || fmt.Sprint(r.Get("data", "metadata", "version")) != "2" {
		t.Errorf("a version that is deleted: %d %s", r.Status, r.Text)
	}
	f.Must(t, 404, "GET", "secret/data/none", "", wrapMinute)
	f.Must(t, 404, "LIST", "secret/metadata/none", "", wrapMinute)
	for _, path := range []string{"sys/health", "sys/seal-status", "sys/leader"} { // as in Vault
		if r := f.Must(t, 200, "GET", path, "", wrapMinute); strings.Contains(r.Text, "wrap_info") {
			t.Errorf("%s: %s", path, r.Text)
		}
	}
	before := f.Snapshot(t)
	if r := f.Must(t, 200, "GET", "sys/internal/ui/mounts", "", servertest.As(""), wrapMinute); r.Get("data") == nil || !maps.Equal(before, f.Snapshot(t)) {
		t.Errorf("what is for everybody: %s", r.Text)
	}
	for header, want := range map[string]string{
		"X-Vault-Wrap-TTL: -1":                                "requested wrap ttl cannot be negative",
		"X-Vault-Wrap-TTL: soon":                              "error parsing X-Vault-Wrap-TTL header",
		"X-Vault-Wrap-TTL: 10ms":                              "it is less than a second",
		"X-Vault-Wrap-TTL: 60\nX-Vault-Wrap-Format: jwt":      "remove the header X-Vault-Wrap-Format",
		"X-Vault-Wrap-TTL: 99999999999999":                    "error parsing X-Vault-Wrap-TTL header",
		"X-Vault-Wrap-TTL: 60\nX-Vault-Namespace: team\nX: y": "namespaces are not supported",
	} {
		if r := f.Call(t, "GET", "secret/data/a", "", strings.Split(header, "\n")...); r.Status != 400 || !strings.Contains(r.Errors(), want) {
			t.Errorf("%q: %d %s", header, r.Status, r.Text)
		}
	}
	f.Must(t, 404, "GET", "secret/data/a", "", "X-Vault-Wrap-TTL: 0")
	if r := f.Call(t, "POST", "sys/wrapping/wrap", `{"a":1}`); r.Status != 400 || r.Errors() != "endpoint requires response wrapping to be used" {
		t.Errorf("%d %s", r.Status, r.Text)
	}
	f.Must(t, 400, "POST", "sys/wrapping/wrap", `[1]`, wrapMinute)
	if r := unwrap(f.wrapped(t, "POST", "sys/wrapping/wrap", "")); r.Status != 200 || fmt.Sprint(r.Get("data")) != "map[]" {
		t.Errorf("%d %s", r.Status, r.Text)
	}
	// What does not fit in one record.
	if r := f.Call(t, "POST", "sys/wrapping/wrap", `{"k":"`+strings.Repeat("x", storage.MaxValue)+`"}`, wrapMinute); r.Status != 413 || !strings.Contains(r.Errors(), "too much to wrap") {
		t.Errorf("%d %.200s", r.Status, r.Text)
	}
}

// A wrapping token is good for its one answer: with what token, how often, how long.
func TestWrappingToken(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"s3cret"}}`)
	get := func(headers ...string) string {
		t.Helper()
		return f.wrapped(t, "GET", "secret/data/a", "", headers...)
	}
	with := func(token string) string { return `{"token":"` + token + `"}` }
	refused := func(what, method, path, body string, status int, text string, headers ...string) {
		t.Helper()
		if r := f.Call(t, method, path, body, headers...); r.Status != status || r.Errors() != text {
			t.Errorf("%s: %d %s, want %d %s", what, r.Status, r.Text, status, text)
		}
	}
	const lost, denied = "wrapping token is not valid or does not exist", "permission denied"

	// It may not do anything else, and is then used up.
	for _, path := range []string{"GET secret/data/a", "GET auth/token/lookup-self", "GET cubbyhole/response", "PUT sys/wrapping/rewrap", "PUT sys/wrapping/wrap"} {
		token := get()
		method, path, _ := strings.Cut(path, " ")
		refused(path, method, path, "{}", 403, denied, servertest.As(token), wrapMinute)
		refused("after "+path, "POST", "sys/wrapping/unwrap", "{}", 400, lost, servertest.As(token))
	}
	// Looking it up does not use it up, and takes no token.
	token := get()
	for range 3 {
		f.Must(t, 200, "POST", "sys/wrapping/lookup", with(token), servertest.As(""))
		f.Must(t, 200, "GET", "sys/wrapping/lookup", "", servertest.As(token))
	}
	// Somebody without the capability may not have it.
	f.Policy(t, "little", map[string]string{"secret/*": `"read"`})
	refused("without the policy", "POST", "sys/wrapping/unwrap", with(token), 403, denied, servertest.As(f.Bearer(t, "little")))
	refused("with an unknown token", "POST", "sys/wrapping/unwrap", with(token), 400, lost, servertest.As("hvs.unknown"))
	refused("without any token", "POST", "sys/wrapping/unwrap", with(token), 403, denied, servertest.As(""))
	// With itself in the header and the body, as some clients send it.
	if r := f.Must(t, 200, "POST", "sys/wrapping/unwrap", with(token), servertest.As(token)); r.Get("data", "data", "k") != "s3cret" {
		t.Errorf("%s", r.Text)
	}
	refused("again", "POST", "sys/wrapping/unwrap", with(token), 400, lost)
	refused("looked up", "POST", "sys/wrapping/lookup", with(token), 400, lost)
	refused("wrapped again", "POST", "sys/wrapping/rewrap", with(token), 400, lost)
	// Tokens that wrap nothing stay as they are.
	other := f.Token(t, `{"num_uses":1,"policies":["default"]}`)
	for _, what := range []string{"lookup", "unwrap", "rewrap"} {
		refused(what+" of another kind", "POST", "sys/wrapping/"+what, with(other), 400, lost)
		refused(what+" of nothing", "POST", "sys/wrapping/"+what, with("x y"), 400, lost)
	}
	refused("a token of another kind by itself", "POST", "sys/wrapping/unwrap", "{}", 400, lost)
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(other))
	// It ends at the second.
	token = get()
	f.Clock.Add(59 * time.Second)
	f.Must(t, 200, "POST", "sys/wrapping/lookup", with(token))
	f.Clock.Add(time.Second)
	refused("too late", "POST", "sys/wrapping/unwrap", with(token), 400, lost)
	// It does not end with the token that made it, and may be revoked.
	mother := f.Token(t, `{"policies":["root"],"ttl":"1h"}`)
	token, second := get(servertest.As(mother)), get(servertest.As(mother))
	f.Must(t, 204, "POST", "auth/token/revoke-self", "{}", servertest.As(mother))
	f.Must(t, 200, "POST", "sys/wrapping/unwrap", with(token))
	f.Must(t, 204, "POST", "auth/token/revoke", with(second))
	refused("revoked", "POST", "sys/wrapping/unwrap", with(second), 400, lost)
	// A shorter life the second time.
	r := f.Must(t, 200, "POST", "sys/wrapping/rewrap", with(get()), "X-Vault-Wrap-TTL: 10")
	if fmt.Sprint(r.Get("wrap_info", "ttl")) != "10" || r.Get("wrap_info", "creation_path") != "secret/data/a" {
		t.Errorf("%s", r.Text)
	}
	// It lives through a restart, sealed and unsealed.
	token = get()
	f.Keep.Seal()
	refused("while sealed", "POST", "sys/wrapping/lookup", with(token), 503, "Vault is sealed")
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Must(t, 200, "POST", "sys/wrapping/unwrap", "", servertest.As(token))
}

// Of many who have the token at once, one gets the answer.
func TestUnwrapOnce(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"s3cret"}}`)
	for range 10 {
		token := f.wrapped(t, "GET", "secret/data/a", "")
		var got atomic.Int64
		var wait sync.WaitGroup
		for i := range 16 {
			wait.Go(func() {
				body, header := "{}", servertest.As(token)
				if i%2 == 0 {
					body, header = `{"token":"`+token+`"}`, servertest.As(f.Root)
				}
				switch r := f.Call(t, "POST", "sys/wrapping/unwrap", body, header); r.Status {
				case http.StatusOK:
					got.Add(1)
				case http.StatusBadRequest:
				default:
					t.Errorf("%d %s", r.Status, r.Text)
				}
			})
		}
		wait.Wait()
		if got.Load() != 1 {
			t.Fatalf("%d had the answer", got.Load())
		}
	}
}

// Nobody finds the secret in clear where its answer was to be wrapped.
func TestPolicyWrapsAnswers(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"s3cret"}}`)
	f.Must(t, 204, "POST", "sys/policies/acl/wrapped", `{"policy":"path \"secret/data/a\" {\n capabilities = [\"read\"]\n min_wrapping_ttl = \"1s\"\n max_wrapping_ttl = \"90s\"\n}"}`)
	token := f.Bearer(t, "wrapped")
	f.Must(t, 403, "GET", "secret/data/a", "", servertest.As(token))
	f.Must(t, 403, "GET", "secret/data/a", "", servertest.As(token), "X-Vault-Wrap-TTL: 91")
	f.wrapped(t, "GET", "secret/data/a", "", servertest.As(token))
}

// TestDeepAnswersUnwrapOrAreRefused wraps answers that are nested as deep as JSON is read: one that could not be
// unwrapped is refused, and leaves no token behind.
func TestDeepAnswersUnwrapOrAreRefused(t *testing.T) {
	f := fresh(t)
	for levels := api.MaxLevels - 2; levels <= api.MaxLevels; levels++ {
		data := `{"a":` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + `}`
		f.Must(t, 200, "PUT", "secret/data/deep", `{"data":`+data+`}`)
		f.Must(t, 204, "PUT", "cubbyhole/deep", data)
		for _, c := range []struct{ method, path, body string }{
			{"GET", "secret/data/deep", ""}, {"GET", "cubbyhole/deep", ""}, {"POST", "sys/wrapping/wrap", data},
		} {
			before := f.TokenRecords(t)
			r := f.Call(t, c.method, c.path, c.body, "X-Vault-Wrap-TTL: 60")
			switch {
			case r.Status == 400 && strings.Contains(r.Errors(), "too deeply to be wrapped") && f.TokenRecords(t) == before:
				if levels < api.MaxLevels {
					t.Errorf("%s of %d levels is refused", c.path, levels)
				}
			case r.Status == 200:
				token := r.Get("wrap_info", "token").(string)
				if r := f.Must(t, 200, "POST", "sys/wrapping/unwrap", "", servertest.As(token)); !strings.Contains(r.Text, data) {
					t.Errorf("%s of %d levels: %.100s", c.path, levels, r.Text)
				}
			default:
				t.Errorf("%s of %d levels: %d %.200s", c.path, levels, r.Status, r.Text)
			}
		}
	}
	// A role that could not be read again is none.
	f.Must(t, 204, "POST", "sys/auth/jwt", `{"type":"jwt"}`)
	for levels := api.MaxLevels - 4; levels <= api.MaxLevels; levels++ {
		claims := strings.Repeat("[", levels) + strings.Repeat("]", levels)
		r := f.Call(t, "POST", "auth/jwt/role/deep", `{"role_type":"jwt","user_claim":"sub","bound_subject":"s","bound_claims":{"a":`+claims+`}}`)
		if r.Status >= 500 {
			t.Errorf("%d levels: %d %.200s", levels, r.Status, r.Text)
		}
		want := 404
		if r.Status < 300 {
			want = 200
		}
		f.Must(t, want, "GET", "auth/jwt/role/deep", "")
		f.Must(t, 204, "DELETE", "auth/jwt/role/deep", "")
	}
}

func TestCubbyholes(t *testing.T) {
	f := fresh(t)
	one, other := f.Token(t, `{"policies":["default"]}`), f.Token(t, `{"policies":["default"]}`)
	f.Must(t, 204, "POST", "cubbyhole/a", `{"k":"one","k":"two"}`, servertest.As(one))
	f.Must(t, 204, "PUT", "cubbyhole/b/c", ` {"list":[1,{"x":null}]} `, servertest.As(one))
	if r := f.Must(t, 200, "GET", "cubbyhole/a", "", servertest.As(one)); fmt.Sprint(r.Get("data")) != "map[k:two]" || r.Get("mount_type") != "cubbyhole" {
		t.Errorf("%s", r.Text)
	}
	if r := f.Must(t, 200, "GET", "cubbyhole?list=true", "", servertest.As(one)); fmt.Sprint(r.Get("data", "keys")) != "[a b/]" {
		t.Errorf("%s", r.Text)
	}
	// Nobody else sees it: not its maker, nor a root token.
	for _, who := range []string{other, f.Root} {
		f.Must(t, 404, "GET", "cubbyhole/a", "", servertest.As(who))
		f.Must(t, 404, "LIST", "cubbyhole", "", servertest.As(who))
		f.Must(t, 204, "DELETE", "cubbyhole/a", "", servertest.As(who))
	}
	f.Must(t, 200, "GET", "cubbyhole/a", "", servertest.As(one))
	for path, body := range map[string]string{"cubbyhole/a": "", "cubbyhole/b": "{}", "cubbyhole/c": "[1]", "cubbyhole/d": "\"\xff\"", "cubbyhole/e": "{\"a\":\"\xff\"}",
		"cubbyhole/f": `{"a":` + strings.Repeat("[", api.MaxLevels+1) + strings.Repeat("]", api.MaxLevels+1) + `}`} {
		if r := f.Call(t, "POST", path, body, servertest.As(one)); r.Status != 400 {
			t.Errorf("%s %.40q: %d %s", path, body, r.Status, r.Text)
		}
	}
	f.Must(t, 400, "POST", "cubbyhole", `{"k":1}`)
	f.Must(t, 413, "POST", "cubbyhole/a", `{"k":"`+strings.Repeat("x", 300<<10)+`"}`, servertest.As(one))
	f.Must(t, 405, "PATCH", "cubbyhole/a", `{"k":"x"}`, servertest.As(f.Root))
	// Creating and updating are two capabilities.
	f.Policy(t, "update", map[string]string{"cubbyhole/*": `"update"`})
	f.Must(t, 403, "POST", "cubbyhole/a", `{"k":1}`, servertest.As(f.Bearer(t, "update")))
	f.Policy(t, "create", map[string]string{"cubbyhole/*": `"create"`})
	creator := f.Bearer(t, "create")
	f.Must(t, 204, "POST", "cubbyhole/a", `{"k":1}`, servertest.As(creator))
	f.Must(t, 403, "POST", "cubbyhole/a", `{"k":1}`, servertest.As(creator))
	// The last use of a token has it yet; writing to what ends with the request is refused.
	limited := f.Token(t, `{"policies":["default"],"num_uses":2}`)
	f.Must(t, 204, "POST", "cubbyhole/a", `{"k":1}`, servertest.As(limited))
	f.Must(t, 200, "GET", "cubbyhole/a", "", servertest.As(limited))
	limited = f.Token(t, `{"policies":["default"],"num_uses":1}`)
	f.Must(t, 403, "POST", "cubbyhole/a", `{"k":1}`, servertest.As(limited))
	// It is shown as if it were mounted, and stays.
	if r := f.Must(t, 200, "GET", "sys/mounts/cubbyhole", ""); r.Get("data", "type") != "cubbyhole" {
		t.Errorf("%s", r.Text)
	}
	f.Must(t, 200, "GET", "sys/mounts/cubbyhole/tune", "")
	f.Must(t, 400, "POST", "sys/mounts/cubbyhole/tune", `{"description":"x"}`)
	f.Must(t, 400, "DELETE", "sys/mounts/cubbyhole", "")
	f.Must(t, 400, "POST", "sys/mounts/cubbyhole", `{"type":"kv-v2"}`)
	if r := f.Must(t, 200, "GET", "sys/internal/ui/mounts/cubbyhole/a", "", servertest.As(one)); r.Get("data", "path") != "cubbyhole/" {
		t.Errorf("%s", r.Text)
	}
	f.Must(t, 403, "GET", "sys/internal/ui/mounts/cubbyhole/a", "", servertest.As(f.Bearer(t)))
}

// What is handed out at a login, and the way in to one, are wrapped like the rest.
func TestWrappedLogin(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/auth/approle", `{"type":"approle"}`)
	f.Must(t, 204, "POST", "auth/approle/role/app", `{"token_policies":"app"}`)
	role := f.Must(t, 200, "GET", "auth/approle/role/app/role-id", "").Get("data", "role_id").(string)
	r := f.Must(t, 200, "POST", "auth/approle/role/app/secret-id", "{}", wrapMinute)
	made := f.Must(t, 200, "POST", "sys/wrapping/unwrap", "", servertest.As(r.Get("wrap_info", "token").(string)))
	if made.Get("data", "secret_id_accessor") != r.Get("wrap_info", "wrapped_accessor") || r.Get("wrap_info", "wrapped_accessor") == nil {
		t.Errorf("%s, wrapped by %s", made.Text, r.Text)
	}
	login := fmt.Sprintf(`{"role_id":%q,"secret_id":%q}`, role, made.Get("data", "secret_id"))
	r = f.Must(t, 200, "POST", "auth/approle/login", login, servertest.As(""), wrapMinute)
	if r.Get("auth") != nil {
		t.Fatalf("%s", r.Text)
	}
	in := f.Must(t, 200, "POST", "sys/wrapping/unwrap", "", servertest.As(r.Get("wrap_info", "token").(string)))
	if in.Get("auth", "accessor") != r.Get("wrap_info", "wrapped_accessor") {
		t.Errorf("%s, wrapped by %s", in.Text, r.Text)
	}
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(in.Get("auth", "client_token").(string)))
	if r := f.Call(t, "POST", "auth/approle/login", `{"role_id":"x"}`, servertest.As(""), wrapMinute); r.Status != 400 || strings.Contains(r.Text, "wrap_info") {
		t.Errorf("%d %s", r.Status, r.Text)
	}
}

// BenchmarkWrap wraps a secret of 1 KB and unwraps it, by several at once.
func BenchmarkWrap(b *testing.B) {
	f := fresh(b)
	f.Must(b, 200, "POST", "secret/data/a", `{"data":{"k":"`+strings.Repeat("x", 1000)+`"}}`)
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			token := f.wrapped(b, "GET", "secret/data/a", "")
			if r := f.Call(b, "POST", "sys/wrapping/unwrap", "{}", servertest.As(token)); r.Status != 200 {
				b.Error(r.Status, r.Text)
			}
		}
	})
}

// The audit log tells who wrapped and who unwrapped what, and has neither the
// secret nor the wrapping token, nor the token that is wrapped.
func TestWrappingAudited(t *testing.T) {
	d, file := servertest.AuditFile(t)
	f := freshAudited(t, []audit.Device{d})
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"s3cret"}}`)
	token := f.wrapped(t, "GET", "secret/data/a", "")
	f.Must(t, 200, "POST", "sys/wrapping/lookup", `{"token":"`+token+`"}`)
	f.Must(t, 200, "POST", "sys/wrapping/unwrap", "", servertest.As(token))
	f.Must(t, 400, "POST", "sys/wrapping/unwrap", `{"token":"`+token+`"}`)
	second := f.wrapped(t, "POST", "auth/token/create", `{"policies":["default"]}`)
	in := f.Must(t, 200, "POST", "sys/wrapping/unwrap", `{"token":"`+second+`"}`)
	f.Must(t, 204, "POST", "cubbyhole/a", `{"k":"s3cret"}`)
	f.Must(t, 200, "GET", "cubbyhole/a", "")
	f.SetLimits(server.Limits{PerSource: server.Rate{PerSecond: 1}})
	for range 10 {
		f.Call(t, "GET", "cubbyhole/a", "")
	}

	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"s3cret", token, second, in.Get("auth", "client_token").(string), in.Get("auth", "accessor").(string)} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	list := servertest.Records(t, file)
	var wraps, unwraps, limited int
	for _, r := range list {
		path := r.Get("request", "path")
		switch {
		case r.Get("response", "wrap_info") != nil:
			wraps++
			info := fmt.Sprint(r.Get("response", "wrap_info", "creation_path"), r.Get("response", "wrap_info", "ttl"))
			if info != fmt.Sprint(path, 60) || !strings.HasPrefix(fmt.Sprint(r.Get("response", "wrap_info", "token")), "hmac-sha256:") || r.Get("response", "data") != nil || r.Get("response", "auth") != nil ||
				fmt.Sprint(r.Get("request", "wrap_ttl")) != "60" {
				t.Errorf("%v", r)
			}
		case r["type"] == "response" && path == "sys/wrapping/unwrap" && r["error"] == nil:
			unwraps++
			if hmac, _ := r.Get("response", "data", "data", "data", "k").(string); unwraps == 1 && !strings.HasPrefix(hmac, "hmac-sha256:") {
				t.Errorf("%v", r)
			}
		case r["type"] == "request" && path == "cubbyhole/a" && r.Get("request", "operation") == "read":
			limited++
		}
	}
	if wraps != 2 || unwraps != 2 || limited != 2 { // one before the limit, one within it
		t.Errorf("%d were wrapped, %d unwrapped, and %d reads of the cubbyhole recorded: %s", wraps, unwraps, limited, raw)
	}
}
