package tfstate_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/engine/tfstate"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/servertest"
)

// What the backends http of Terraform and OpenTofu send, and what they take of the
// answers.
func TestBackend(t *testing.T) {
	f := fresh(t)
	const at = "state/data/net/prod"
	me := basic("anybody", f.Root)
	f.Must(t, 404, "GET", at, "", me...)
	f.Must(t, 200, "LOCK", at, lockOf("a"), me...)
	f.Must(t, 200, "LOCK", at, lockOf("a"), me...) // again: the answer was lost
	if r := f.Must(t, 423, "LOCK", at, lockOf("b"), me...); r.Text != lockOf("a") {
		t.Errorf("the holder's lock is not sent back as it came: %s", r.Text)
	}
	f.Must(t, 200, "POST", at+"?ID=a", stateOf(1, ""), me...)
	f.Must(t, 200, "POST", at+"?ID=a", stateOf(1, ""), me...) // again
	for _, path := range []string{at, at + "?ID=b", at + "?ID="} {
		if r := f.Must(t, 423, "POST", path, stateOf(2, ""), me...); r.Text != lockOf("a") {
			t.Errorf("%s: %s", path, r.Text)
		}
		f.Must(t, 423, "DELETE", path, "", me...)
	}
	f.Must(t, 423, "UNLOCK", at, lockOf("b"), me...)
	f.Must(t, 200, "UNLOCK", at, lockOf("a"), me...)
	f.Must(t, 200, "UNLOCK", at, lockOf("a"), me...)          // again
	f.Must(t, 423, "POST", at+"?ID=a", stateOf(2, ""), me...) // somebody may have forced it
	f.Must(t, 200, "PUT", at, stateOf(2, ""), me...)          // -lock=false
	r := f.Must(t, 200, "GET", at, "", "Authorization: Bearer "+f.Root, "X-Vault-Token: ")
	sum := md5.Sum([]byte(stateOf(2, "")))
	if r.Text != stateOf(2, "") || r.Header.Get("Content-MD5") != base64.StdEncoding.EncodeToString(sum[:]) {
		t.Errorf("%s, Content-MD5 %s", r.Text, r.Header.Get("Content-MD5"))
	}
	if r := f.Must(t, 200, "GET", "state/history/net/prod", ""); fmt.Sprint(len(r.Get("data", "versions").([]any))) != "2" {
		t.Errorf("writing the same again makes a version: %s", r.Text)
	}
	f.Must(t, 200, "DELETE", at, "", me...)
	f.Must(t, 404, "GET", at, "")
	f.Must(t, 200, "DELETE", at, "", me...)
	f.Must(t, 204, "POST", "state/undelete/net/prod", "")
	f.Must(t, 200, "GET", at, "")
	f.Must(t, 204, "DELETE", "state/metadata/net/prod", "")
	f.Must(t, 404, "GET", "state/metadata/net/prod", "")
	f.Must(t, 400, "POST", "state/data/net/lock/lock", stateOf(1, "")) // an address of a lock takes what says a lock
	for _, c := range []struct {
		status int
		auth   []string
	}{{401, []string{"X-Vault-Token: "}}, {401, basic("x", "")}, {403, basic("x", "wrong")}, {403, basic("jwt/ci", "wrong")}} {
		r := f.Must(t, c.status, "GET", at, "", c.auth...)
		if got := r.Header.Get("WWW-Authenticate"); (got != "") != (c.status == 401) {
			t.Errorf("%d: WWW-Authenticate %q", c.status, got)
		}
	}
	if r := f.Must(t, 403, "GET", "secret/data/x", "", "X-Vault-Token: "); r.Header.Get("WWW-Authenticate") != "" {
		t.Error("Basic authentication is asked for elsewhere")
	}
	f.Must(t, 403, "GET", "secret/data/x", "", me...)
	if r := f.Must(t, 403, "POST", at, stateOf(3, ""), append(me, "Sec-Fetch-Site: cross-site")...); !strings.Contains(r.Errors(), "another site") {
		t.Error(r.Text)
	}
}

// A body that is not what its headers say, or no state, leaves the old one.
func TestBrokenBodies(t *testing.T) {
	f := fresh(t)
	const at = "state/data/s"
	f.Must(t, 200, "POST", at, stateOf(1, ""))
	f.Must(t, 400, "POST", at, stateOf(2, ""), "Content-MD5: x")
	f.Must(t, 400, "POST", at, stateOf(2, ""), "Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==")
	for _, body := range []string{"", "[]", "null", "<html>", stateOf(2, "")[:60]} {
		f.Must(t, 400, "POST", at, body)
	}
	addr := f.OverHTTP(t)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/%s HTTP/1.1\r\nHost: x\r\nX-Vault-Token: %s\r\nContent-Length: 100000\r\n\r\n%s", at, f.Root, stateOf(2, ""))
	c.(*net.TCPConn).CloseWrite()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if answer, err := io.ReadAll(c); err != nil || !bytes.Contains(answer, []byte("400 Bad Request")) || !bytes.Contains(answer, []byte("ended before its Content-Length")) {
		t.Errorf("a body that ends early: %s, %v", answer, err)
	}
	if r := f.Must(t, 200, "GET", at, ""); r.Text != stateOf(1, "") {
		t.Errorf("the old state is gone: %s", r.Text)
	}
	if r := f.Must(t, 200, "GET", "state/history/s", ""); len(r.Get("data", "versions").([]any)) != 1 {
		t.Error(r.Text)
	}
}

// Both forms of force-unlock, and who may.
func TestForceUnlock(t *testing.T) {
	f := fresh(t)
	f.Policy(t, "writer", map[string]string{"state/data/*": `"create", "read", "update"`, "state/lock/*": `"update", "read"`})
	f.Policy(t, "forcer", map[string]string{"state/force-unlock/*": `"update"`})
	one, two, boss := f.Bearer(t, "writer"), f.Bearer(t, "writer"), f.Bearer(t, "writer", "forcer")
	const at = "state/data/a"
	for _, force := range []string{
		"", // Terraform 1.11
		`{"ID":"x","Operation":"","Info":"","Who":"","Version":"","Created":"0001-01-01T00:00:00Z","Path":""}`, // OpenTofu
	} {
		f.Must(t, 200, "LOCK", at, lockOf("x"), "X-Vault-Token: "+one)
		f.Must(t, 423, "LOCK", at, lockOf("x"), "X-Vault-Token: "+two)
		f.Must(t, 423, "POST", at+"?ID=x", stateOf(1, ""), "X-Vault-Token: "+two)
		f.Must(t, 423, "UNLOCK", at, force, "X-Vault-Token: "+two)
		f.Must(t, 423, "UNLOCK", at, lockOf("x"), "X-Vault-Token: "+two)
		f.Must(t, 403, "POST", "state/force-unlock/a", "", "X-Vault-Token: "+two)
		f.Must(t, 423, "POST", at+"?ID=x", stateOf(1, ""), "X-Vault-Token: "+boss) // the ID is no secret
		f.Must(t, 200, "UNLOCK", at, force, "X-Vault-Token: "+boss)
		f.Must(t, 404, "GET", "state/lock/a", "", "X-Vault-Token: "+one)
	}
	f.Must(t, 200, "LOCK", at, lockOf("y"), "X-Vault-Token: "+one)
	f.Must(t, 423, "POST", "state/force-unlock/a", `{"ID":"z"}`, "X-Vault-Token: "+boss)
	f.Must(t, 200, "POST", "state/force-unlock/a", `{"ID":"y"}`, "X-Vault-Token: "+boss)
	f.Must(t, 200, "LOCK", at, lockOf("y"), "X-Vault-Token: "+one)
	f.Must(t, 200, "UNLOCK", at, "", "X-Vault-Token: "+boss)
	f.Must(t, 400, "LOCK", at, "", "X-Vault-Token: "+one)
	f.Must(t, 400, "LOCK", at, "{}", "X-Vault-Token: "+one)
}

// The addresses of terraform-backend, GitLab and Gitea, and GitLab's methods.
func TestAddresses(t *testing.T) {
	f := fresh(t)
	call := func(want int, method, url, body string) string {
		t.Helper()
		req := httptest.NewRequest(method, "http://keep"+url, strings.NewReader(body))
		req.SetBasicAuth("x", f.Root)
		w := httptest.NewRecorder()
		f.HTTP.ServeHTTP(w, req)
		if w.Code != want {
			t.Fatalf("%s %s: %d, want %d: %s", method, url, w.Code, want, w.Body)
		}
		return w.Body.String()
	}
	for i, c := range []struct{ url, path string }{
		{"/state/p-q/r", "p-q/r"},
		{"/state/p/q-r", "p/q-r"}, // which collide elsewhere
		{"/api/v4/projects/42/terraform/state/prod", "42/prod"},
		{"/api/v4/projects/group%2Fproject/terraform/state/prod", "group/project/prod"},
		{"/api/packages/me/terraform/state/prod", "me/prod"},
		{"/v1/state/data/a/b/c", "a/b/c"},
	} {
		state := stateOf(i+1, "")
		call(404, "GET", c.url, "")
		call(200, "POST", c.url+"/lock", lockOf("g"))
		call(423, "POST", c.url+"/lock", lockOf("h"))
		call(423, "LOCK", c.url, lockOf("h"))
		call(200, "POST", c.url+"?ID=g", state)
		call(200, "DELETE", c.url+"/lock", lockOf("g"))
		call(200, "LOCK", c.url, lockOf("g"))
		call(200, "DELETE", c.url+"/lock?ID=g", "")
		if got := call(200, "GET", c.url, ""); got != state {
			t.Errorf("%s: %s", c.url, got)
		}
		if r := f.Must(t, 200, "GET", "state/data/"+c.path, ""); r.Text != state {
			t.Errorf("%s is not %s: %s", c.url, c.path, r.Text)
		}
	}
	call(400, "GET", "/state/a/../b", "")
	call(400, "GET", "/state/a//b", "")
	call(404, "GET", "/stat/a", "")
	f.Must(t, 404, "GET", "state/p/q-r", "") // nothing collides with the engine's own paths
}

// One of many takes the lock, each time.
func TestRacingLocks(t *testing.T) {
	f := fresh(t)
	for round := range 20 {
		var won atomic.Int32
		var wait sync.WaitGroup
		for i := range 50 {
			wait.Go(func() {
				if r := f.Call(t, "LOCK", "state/data/race", lockOf(fmt.Sprintf("%d-%d", round, i))); r.Status == 200 {
					won.Add(1)
				}
			})
		}
		wait.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d took the lock", won.Load())
		}
		f.Must(t, 200, "POST", "state/force-unlock/race", "")
	}
}

// Root outputs alone, and for whom.
func TestOutputs(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "POST", "state/data/net", stateOf(3, `{"mode":"managed","type":"x","name":"y","instances":[{"attributes":{"password":"hidden"}}]}`))
	f.Policy(t, "outputs", map[string]string{"state/outputs/*": `"read"`})
	f.Policy(t, "data", map[string]string{"state/data/*": `"read"`})
	f.Policy(t, "no", map[string]string{"state/outputs/*": `"read"`, "state/data/net": `"deny"`})
	f.Policy(t, "denied", map[string]string{"state/data/*": `"read"`, "state/outputs/net": `"deny"`})
	for policy, want := range map[string][2]int{"outputs": {200, 403}, "data": {200, 200}, "no": {403, 403}, "denied": {403, 200}} {
		token := "X-Vault-Token: " + f.Bearer(t, policy)
		for _, path := range []string{"state/outputs/net", "state/data/net?outputs"} {
			r := f.Must(t, want[0], "GET", path, "", token)
			if r.Status == 200 && (r.Get("outputs", "o", "value") != "v3" || fmt.Sprint(r.Get("resources")) != "[]" || strings.Contains(r.Text, "hidden")) {
				t.Errorf("%s: %s", path, r.Text)
			}
		}
		f.Must(t, want[1], "GET", "state/data/net", "", token)
	}
	f.Must(t, 200, "POST", "state/data/sealed", `{"serial":7,"lineage":"abc","meta":{},"encrypted_data":"AAAA","encryption_version":"v0"}`)
	if r := f.Must(t, 409, "GET", "state/outputs/sealed", ""); !strings.Contains(r.Errors(), "encrypted by OpenTofu") {
		t.Error(r.Text)
	}
}

func TestHistory(t *testing.T) {
	f := fresh(t)
	const at = "state/data/h"
	f.Must(t, 204, "POST", "state/metadata/h", `{"max_versions":5}`)
	for n := 1; n <= 8; n++ {
		f.Must(t, 200, "POST", at, stateOf(n, ""))
	}
	numbers := func(query string) (list []string) {
		t.Helper()
		for _, v := range f.Must(t, 200, "GET", "state/history/h"+query, "").Get("data", "versions").([]any) {
			list = append(list, fmt.Sprint(v.(map[string]any)["version"]))
		}
		return list
	}
	if got := fmt.Sprint(numbers("")); got != "[8 7 6 5 4]" {
		t.Errorf("of 8 versions, 5 of which are kept, there are %s", got)
	}
	if got := fmt.Sprint(numbers("?limit=2"), numbers("?limit=2&after=7"), numbers("?after=4")); got != "[8 7] [6 5] []" {
		t.Errorf("pages: %s", got)
	}
	if r := f.Must(t, 200, "GET", at+"?version=5", ""); r.Text != stateOf(5, "") {
		t.Error(r.Text)
	}
	f.Must(t, 404, "GET", at+"?version=3", "")
	f.Must(t, 200, "POST", "state/rollback/h", `{"version":5}`)
	if r := f.Must(t, 200, "GET", at, ""); r.Text != strings.Replace(stateOf(5, ""), `"serial":5`, `"serial":9`, 1) {
		t.Errorf("rolled back to %s", r.Text)
	}
	f.Must(t, 404, "POST", "state/rollback/h", `{"version":1}`)
	f.Must(t, 400, "POST", "state/rollback/h", `{}`)
	f.Must(t, 409, "DELETE", "state/version/h?version=9", "")
	f.Must(t, 204, "DELETE", "state/version/h?version=7", "")
	f.Must(t, 404, "GET", at+"?version=7", "")
	if got := fmt.Sprint(numbers("")); got != "[9 8 6 5]" {
		t.Errorf("without version 7: %s", got)
	}
	f.Must(t, 200, "LOCK", at, lockOf("z"))
	f.Must(t, 423, "POST", "state/rollback/h", `{"version":5}`)
	f.Must(t, 423, "DELETE", "state/metadata/h", "")
	f.Must(t, 200, "UNLOCK", at, lockOf("z"))

	// The client has checked; what it forces is marked, or refused where that was asked.
	f.Must(t, 200, "POST", at, stateOf(2, ""))
	f.Must(t, 200, "POST", at, strings.Replace(stateOf(1, ""), "one", "two", 1))
	list := f.Must(t, 200, "GET", "state/history/h?limit=2", "").Get("data", "versions").([]any)
	if list[1].(map[string]any)["serial_went_back"] != true || list[0].(map[string]any)["lineage_changed"] != true {
		t.Errorf("%v", list)
	}
	f.Must(t, 204, "POST", "state/metadata/h", `{"strict":true}`)
	f.Must(t, 409, "POST", at, strings.Replace(stateOf(0, ""), "one", "two", 1))
	f.Must(t, 409, "POST", at, stateOf(30, ""))
	f.Must(t, 200, "POST", at, strings.Replace(stateOf(30, ""), "one", "two", 1))

	before := f.Below(t, "mount")
	f.Must(t, 204, "DELETE", "state/metadata/h", "")
	if r, err := f.Unsealed().Store.Check(t.Context()); err != nil || !r.OK() || r.Chunks != 0 {
		t.Errorf("of a purged state there are %d records of blobs left of %d, %v", r.Chunks, before, err)
	}
}

func TestListStates(t *testing.T) {
	f := fresh(t)
	var want []string
	for _, path := range []string{"a", "a/b", "a/b/c", "a/z", "a-b", "b/c", "b/d", "c"} {
		f.Must(t, 200, "POST", "state/data/"+path, stateOf(1, ""))
		want = append(want, path)
	}
	f.Must(t, 200, "LOCK", "state/data/b/d", lockOf("x"))
	for _, limit := range []int{1, 2, 3, 100} {
		var got []string
		for after := ""; ; {
			r := f.Must(t, 200, "GET", fmt.Sprintf("state/states?limit=%d&after=%s", limit, after), "")
			list := r.Get("data", "states").([]any)
			if len(list) > limit {
				t.Fatalf("%d on a page of %d", len(list), limit)
			}
			for _, s := range list {
				got = append(got, s.(map[string]any)["path"].(string))
			}
			next, more := r.Get("data", "next").(string)
			if !more {
				break
			}
			after = next
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("in pages of %d: %v, want %v", limit, got, want)
		}
	}
	if r := f.Must(t, 200, "GET", "state/states?locks=true", ""); fmt.Sprint(len(r.Get("data", "states").([]any))) != "1" || !strings.Contains(r.Text, `"path":"b/d"`) || !strings.Contains(r.Text, "me@host") {
		t.Error(r.Text)
	}
	if r := f.Must(t, 200, "GET", "state/states/a", ""); len(r.Get("data", "states").([]any)) != 3 {
		t.Error(r.Text)
	}
	if r := f.Must(t, 200, "LIST", "state/data/a", ""); fmt.Sprint(r.Get("data", "keys")) != "[b b/ z]" {
		t.Error(r.Text)
	}
}

// A CI job with nothing but its ID token, which ends in the middle of its apply.
func TestJWTByBasicAuthentication(t *testing.T) {
	f := fresh(t)
	i := servertest.NewIssuer(t)
	f.Must(t, 204, "POST", "sys/auth/jwt", `{"type":"jwt"}`)
	f.Must(t, 204, "POST", "sys/auth/gitlab", `{"type":"jwt"}`)
	for _, mount := range []string{"jwt", "gitlab"} {
		f.Must(t, 204, "POST", "auth/"+mount+"/config", servertest.JSONText(map[string]any{"jwt_validation_pubkeys": []string{i.Public}}))
	}
	f.Policy(t, "ci", map[string]string{"state/data/*": `"create", "read", "update"`, "state/lock/*": `"update"`})
	role := func(path, more string) {
		t.Helper()
		f.Must(t, 204, "POST", path, `{"role_type":"jwt","user_claim":"sub","bound_audiences":"keep","token_policies":"ci"`+more+`}`)
	}
	role("auth/jwt/role/deploy", "")
	role("auth/gitlab/role/deploy", "")
	role("auth/jwt/role/uses", `,"token_num_uses":3`)
	role("auth/jwt/role/periodic", `,"token_period":"1h"`)
	role("auth/jwt/role/here", `,"token_bound_cidrs":"10.9.0.0/16"`)
	f.Must(t, 204, "POST", "auth/jwt/role/any", `{"role_type":"jwt","user_claim":"sub","bound_subject":"repo:one:ref:refs/heads/main","token_policies":"ci"}`)
	const at = "state/data/ci"
	mine := i.Sign(t, nil)
	other := i.Sign(t, map[string]any{"jti": "2"}) // of the same job, ends at the same time
	me := basic("jwt/deploy", mine)
	before := f.TokenRecords(t)
	f.Must(t, 200, "LOCK", at, lockOf("j"), me...)
	f.Must(t, 200, "POST", at+"?ID=j", stateOf(1, ""), me...)
	f.Must(t, 423, "POST", at+"?ID=j", stateOf(2, ""), basic("jwt:gitlab/deploy", mine)...) // another identity
	f.Must(t, 200, "GET", at, "", basic("jwt:gitlab/deploy", mine)...)
	if n := f.TokenRecords(t); n != before {
		t.Errorf("%d tokens were stored", n-before)
	}
	for user, text := range map[string]string{"jwt/uses": "token_num_uses", "jwt/periodic": "token_period", "jwt/here": "permission denied", "jwt/none": "could not be found", "jwt/any": "bound_audiences", "jwt:none/x": "no login method"} {
		if r := f.Must(t, 403, "GET", at, "", append(basic(user, i.Sign(t, map[string]any{"jti": user})), "RemoteAddr: 10.1.0.1:1")...); !strings.Contains(r.Errors(), text) {
			t.Errorf("%s: %s", user, r.Text)
		}
	}
	f.Must(t, 403, "GET", at, "", append(basic("jwt/deploy", i.Sign(t, map[string]any{"aud": "else"})), "RemoteAddr: 10.1.0.2:1")...)

	f.Clock.Add(3 * time.Minute) // the apply goes on
	f.Must(t, 403, "GET", at, "", append(me, "RemoteAddr: 10.1.0.3:1")...)
	f.Must(t, 403, "LOCK", at, lockOf("j"), append(me, "RemoteAddr: 10.1.0.4:1")...)
	f.Must(t, 403, "POST", "state/data/other?ID=j", stateOf(2, ""), append(me, "RemoteAddr: 10.1.0.5:1")...)
	f.Must(t, 423, "POST", at+"?ID=k", stateOf(2, ""), me...)
	f.Must(t, 423, "POST", at, stateOf(2, ""), me...)
	f.Must(t, 403, "POST", at+"?ID=j", stateOf(2, ""), append(basic("jwt/deploy", other), "RemoteAddr: 10.1.0.6:1")...)
	f.Must(t, 403, "POST", at+"?ID=j", stateOf(2, ""), append(basic("jwt/deploy", other), "RemoteAddr: 10.1.0.7:1")...)
	f.Must(t, 200, "POST", at+"?ID=j", stateOf(2, ""), me...)
	f.Policy(t, "ci", map[string]string{"state/lock/*": `"update"`}) // policies count anew each time
	f.Must(t, 403, "POST", at+"?ID=j", stateOf(3, ""), me...)
	f.Must(t, 423, "UNLOCK", at, "", me...)
	f.Must(t, 200, "UNLOCK", at, lockOf("j"), me...)
	f.Must(t, 403, "UNLOCK", at, lockOf("j"), append(me, "RemoteAddr: 10.1.0.8:1")...)

	// Not for longer than the mount says.
	f.Must(t, 204, "POST", "state/config", `{"max_lock_session":"1h"}`)
	long := i.Sign(t, map[string]any{"jti": "3", "exp": f.Clock.Now().Add(time.Minute).Unix()})
	f.Must(t, 200, "LOCK", at, lockOf("l"), basic("jwt/deploy", long)...)
	f.Clock.Add(59 * time.Minute)
	f.Must(t, 423, "UNLOCK", at, lockOf("x"), basic("jwt/deploy", long)...)
	f.Clock.Add(2 * time.Minute)
	f.Must(t, 403, "UNLOCK", at, lockOf("l"), append(basic("jwt/deploy", long), "RemoteAddr: 10.1.0.9:1")...)
}

// Large states arrive and leave in pieces, and locks and states survive a restart of
// the store's process.
func TestLargeStates(t *testing.T) {
	f := fresh(t)
	random := rand.NewChaCha8([32]byte{7})
	noise := make([]byte, 5<<20)
	random.Read(noise)
	big := stateOf(1, `{"mode":"managed","type":"x","name":"y","instances":[{"attributes":{"x":"`+base64.StdEncoding.EncodeToString(noise)+`"}}]}`)
	url := "http://" + f.OverHTTP(t) + "/v1/state/data/big"
	do := func(method string, body io.Reader) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", f.Root)
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var wait sync.WaitGroup
	for n := range 6 { // more than there are places
		wait.Go(func() {
			r := do("POST", strings.NewReader(strings.Replace(big, `"serial":1`, fmt.Sprintf(`"serial":%d`, n+1), 1)))
			text, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode != 200 {
				t.Errorf("status %d: %s", r.StatusCode, text)
			}
		})
	}
	wait.Wait()
	r := do("GET", nil)
	got, err := io.ReadAll(r.Body)
	r.Body.Close()
	var is struct {
		Serial int `json:"serial"`
	}
	if err != nil || json.Unmarshal(got, &is) != nil || len(got) != len(big) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	// A client that goes away in the middle of its upload leaves nothing.
	chunks := func() int {
		t.Helper()
		r, err := f.Unsealed().Store.Check(context.Background())
		if err != nil || !r.OK() {
			t.Fatalf("%+v, %v", r, err)
		}
		return r.Chunks
	}
	before := chunks()
	inFlight := func() int { return len(f.Must(t, 200, "GET", "sys/in-flight-req", "").Body) - 1 } // without this one
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	req, _ := http.NewRequestWithContext(ctx, "POST", url, in)
	req.Header.Set("X-Vault-Token", f.Root)
	go func() {
		io.WriteString(out, big[:4<<20])
		servertest.Until(t, func() bool { return inFlight() == 1 })
		cancel()
		out.CloseWithError(context.Canceled) // the client's transport waits for it
	}()
	if _, err := http.DefaultClient.Do(req); err == nil {
		t.Error("half a state was taken")
	}
	servertest.Eventually(t, "the server has ended it", func() bool { return inFlight() == 0 })
	if n := chunks(); n != before {
		t.Errorf("%d records of what was half stored are left", n-before)
	}
	// Of what a process was storing when it was killed, nothing is left either.
	if _, err := f.Unsealed().Store.WriteBlob(t.Context(), strings.NewReader(big)); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Unsealed().Store.SweepBlobs(t.Context(), -time.Hour); n == 0 || err != nil || chunks() != before {
		t.Errorf("swept %d, %v", n, err)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(strings.TrimSuffix(url, "/v1/state/data/big"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/state/data/x HTTP/1.1\r\nHost: x\r\nX-Vault-Token: %s\r\nContent-Length: %d\r\n\r\n", f.Root, tfstate.MaxSize+1)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if answer, err := io.ReadAll(c); err != nil || !bytes.Contains(answer, []byte("413 Request Entity Too Large")) {
		t.Errorf("a state that is too large: %s, %v", answer, err)
	}
}

// A keep that an older program has made gets the mount, once, unless its path is in
// use; and its states and locks outlive a restart.
func TestOlderKeepsGetTheMount(t *testing.T) {
	for _, used := range []bool{false, true} {
		seal := servertest.NewSeal("one", 1)
		path := filepath.Join(t.TempDir(), "keep.db")
		root := ""
		run := func(types []api.Type, do func(*servertest.Fixture)) {
			t.Helper()
			f := servertest.Start(t, servertest.Config{Path: path, Types: types, Seals: []keep.Seal{seal}})
			if root == "" {
				f.Initialize(t)
				root = f.Root
			}
			f.Root = root
			f.OpenWithin(t, 10*time.Second)
			do(f)
			f.Stop(t)
			seal = seal.Again()
		}
		run([]api.Type{kv.Type()}, func(f *servertest.Fixture) {
			f.Must(t, 404, "GET", "state/config", "")
			if used {
				f.Must(t, 204, "POST", "sys/mounts/state/of/mine", `{"type":"kv","options":{"version":"2"}}`)
			}
		})
		run(types(), func(f *servertest.Fixture) {
			if used {
				f.Must(t, 204, "POST", "secret/config", "{}") // the writer is awake
				f.Must(t, 404, "GET", "state/config", "")
				return
			}
			servertest.Eventually(t, "the mount is made", func() bool { return f.Call(t, "GET", "state/config", "").Status == 200 })
			f.Must(t, 200, "LOCK", "state/data/a", lockOf("a"))
			f.Must(t, 200, "POST", "state/data/a?ID=a", stateOf(1, ""))
			f.Must(t, 204, "POST", "sys/mounts/other", `{"type":"tfstate"}`)
		})
		run(types(), func(f *servertest.Fixture) {
			if used {
				return
			}
			if r := f.Must(t, 423, "LOCK", "state/data/a", lockOf("b")); r.Text != lockOf("a") {
				t.Error(r.Text)
			}
			f.Must(t, 200, "POST", "state/data/a?ID=a", stateOf(2, ""))
			f.Must(t, 404, "GET", "other/data/a", "")
			f.Must(t, 204, "DELETE", "sys/mounts/state", "")
		})
		run(types(), func(f *servertest.Fixture) {
			f.Must(t, 204, "POST", "secret/config", "{}")
			f.Must(t, 404, "GET", "state/config", "") // it was disabled
		})
	}
}

// While the keep is sealed a client that tries again by itself is told when.
func TestSealed(t *testing.T) {
	f := servertest.Start(t, servertest.Config{Path: filepath.Join(t.TempDir(), "keep.db"), Types: types()})
	for _, c := range [][2]string{{"GET", "state/data/a"}, {"LOCK", "state/data/a"}, {"POST", "state/data/a?ID=x"}} {
		if r := f.Must(t, 503, c[0], c[1], lockOf("x")); r.Header.Get("Retry-After") != "5" {
			t.Errorf("%v: Retry-After %q", c, r.Header.Get("Retry-After"))
		}
	}
	if r := f.Must(t, 503, "GET", "secret/data/a", ""); r.Header.Get("Retry-After") != "" {
		t.Errorf("Retry-After %q", r.Header.Get("Retry-After"))
	}
}
