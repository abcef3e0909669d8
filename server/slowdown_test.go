package server_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

func (f *fixture) guess(t testing.TB, name, from string) servertest.Reply {
	t.Helper()
	return f.Call(t, "POST", "auth/t/login", `{"name":"`+name+`","word":"wrong"}`, "X-Vault-Token: ", "RemoteAddr: "+from)
}

// Who guesses waits twice as long each time, to half a minute, wherever in a /64
// he is; nothing is checked for him meanwhile.
func TestGuessingIsSlow(t *testing.T) {
	f := withMethod(t)
	f.Clock.Stop()
	f.Must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	for n, want := range []int{400, 400, 400, 400, 400, 429} {
		if r := f.guess(t, fmt.Sprint(n), "[2001:db8::1]:1"); r.Status != want {
			t.Fatalf("guess %d: %d %s", n, r.Status, r.Text)
		}
	}
	checked := 0
	for _, wait := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
		r := f.guess(t, "x", fmt.Sprintf("[2001:db8::%d]:1", wait+1))
		if r.Status != 429 || r.Header.Get("Retry-After") != fmt.Sprint(wait) || r.Errors() != "too many failed logins: try again later" {
			t.Fatalf("want to wait %d: %d %v %s", wait, r.Status, r.Header, r.Text)
		}
		r = f.Call(t, "POST", "auth/t/login", `{"name":"x","word":"right"}`, "RemoteAddr: [2001:db8::2]:1")
		if r.Status != 429 {
			t.Errorf("a right one, too early: %d", r.Status)
		}
		f.Clock.Add(time.Duration(wait) * time.Second)
		if r := f.guess(t, fmt.Sprint("n", wait, checked), "[2001:db8::1]:1"); r.Status != 400 {
			t.Fatalf("after %d seconds: %d", wait, r.Status)
		}
		checked++
	}
	if r := f.guess(t, "y", "[2001:db8:0:1::1]:1"); r.Status != 400 {
		t.Errorf("another network: %d", r.Status)
	}
	f.Clock.Add(server.FailuresForgotten + time.Second)
	if r := f.guess(t, "x", "[2001:db8::1]:1"); r.Status != 400 {
		t.Errorf("after a quarter of an hour: %d", r.Status)
	}
	got := servertest.Scrape(t, f.Must(t, 200, "GET", "sys/metrics", ""))
	if got[`sealkeep_logins_total{result="slowed",type="test"}`] != "17" || got[`sealkeep_logins_total{result="failed",type="test"}`] != "15" {
		t.Errorf("%v", got)
	}
}

// Guesses from everywhere make a name wait two seconds at most, and not where its
// owner has been before.
func TestOwnerGetsIn(t *testing.T) {
	f := withMethod(t)
	f.Clock.Stop()
	f.Must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	home := "RemoteAddr: 10.0.0.1:1"
	f.Enter(t, "t", "bob", home)
	for n := range 200 {
		if r := f.guess(t, "bob", fmt.Sprintf("10.1.0.%d:1", n)); r.Status != 400 && r.Status != 429 {
			t.Fatal(r.Text)
		}
		f.Clock.Add(300 * time.Millisecond)
	}
	f.guess(t, "bob", "10.2.0.1:1")
	f.Enter(t, "t", "bob", home)
	for range 10 { // a success forgives the name
		f.guess(t, "bob", "10.3.0.1:1")
	}
	away := f.Call(t, "POST", "auth/t/login", `{"name":"bob","word":"right"}`, "RemoteAddr: 10.4.0.1:1")
	if wait := away.Header.Get("Retry-After"); away.Status != 429 || wait != "1" && wait != "2" {
		t.Fatalf("%d after %s", away.Status, wait)
	}
	f.Clock.Add(server.LongestNameWait)
	f.Enter(t, "t", "bob", "RemoteAddr: 10.4.0.1:1")
	f.Enter(t, "t", "ann", "RemoteAddr: 10.4.0.2:1")

	// Others who fail at home do not keep him out either, as long as he is right.
	for range 20 {
		f.guess(t, "eve", "10.0.0.1:1")
	}
	f.Enter(t, "t", "bob", home)
	if r := f.Call(t, "POST", "auth/t/login", `{"name":"ann","word":"right"}`, home); r.Status != 429 {
		t.Errorf("somebody new from there: %d", r.Status)
	}
	f.guess(t, "bob", "10.0.0.1:1")
	if r := f.Call(t, "POST", "auth/t/login", `{"name":"bob","word":"right"}`, home); r.Status != 429 {
		t.Errorf("after a failure of his own: %d", r.Status)
	}

	// On a unix socket only the name counts.
	for range 10 {
		f.guess(t, "uma", "@")
	}
	if r := f.guess(t, "uma", "@"); r.Status != 429 {
		t.Errorf("%d", r.Status)
	}
	if r := f.guess(t, "vic", "@"); r.Status != 400 {
		t.Errorf("%d", r.Status)
	}
}

// Guesses that come at once are as few as those that come one by one, whether of
// one name, from one source, or of a name whose owner was just there.
func TestFiveFailuresAreFiveWhenGuessesComeAtOnce(t *testing.T) {
	f := withMethod(t)
	f.Clock.Stop()
	f.Must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	f.Enter(t, "t", "ann", "RemoteAddr: 10.9.0.1:1")
	for what, guess := range map[string]func(n int) (name, from string){
		"a name":           func(n int) (string, string) { return "bob", fmt.Sprintf("10.0.0.%d:1", n) },
		"a source":         func(n int) (string, string) { return fmt.Sprint("n", n), "10.1.0.1:1" },
		"its owner's home": func(n int) (string, string) { return "ann", "10.9.0.1:1" },
	} {
		var checked atomic.Int32
		var all sync.WaitGroup
		for n := range 200 {
			all.Go(func() {
				name, from := guess(n)
				switch r := f.guess(t, name, from); r.Status {
				case 400:
					checked.Add(1)
				case 429:
				default:
					t.Error(r.Text)
				}
			})
		}
		all.Wait()
		if n := checked.Load(); n != server.FreeFailures {
			t.Errorf("of %s %d guesses were checked", what, n)
		}
	}
}

// Right ones that come at once get in, as after a boot, and one that fails among
// them stops nobody.
func TestManyRightLoginsAtOnceGetIn(t *testing.T) {
	f := withMethod(t)
	f.Must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	var all sync.WaitGroup
	for n := range server.AttemptsWaiting {
		all.Go(func() {
			r := f.Call(t, "POST", "auth/t/login", `{"name":"job","word":"right"}`, fmt.Sprintf("RemoteAddr: 10.0.0.1:%d", n+1))
			if r.Status != 200 {
				t.Error(r.Text)
			}
		})
		if n == 3 {
			all.Go(func() { f.guess(t, "other", "10.0.0.1:9") })
		}
	}
	all.Wait()
}

// TestLoginChanged: what has changed between its check and the transaction is checked
// again, in the same attempt, and what is refused then gives no token.
func TestLoginChanged(t *testing.T) {
	checks, refuse := 0, false
	type input struct{}
	method := api.Type{Name: "changing", Kind: api.Login, Routes: []api.Route{{
		Path: "login", Gate: api.Unsealed, Ops: map[api.Op]api.Handler{api.Write: api.LogIn(
			func(*api.Request, *input) (name, group string, err error) { return "somebody", "", nil },
			func(*api.Request, *input) (api.Proof, error) {
				checks++
				if checks%3 == 0 && refuse {
					return nil, api.Invalid.Errorf("not any more")
				}
				changed := checks%3 != 0
				return func(*storage.Tx) (*access.Login, error) {
					if changed {
						return nil, api.ErrChanged
					}
					return &access.Login{Name: "somebody"}, nil
				}, nil
			},
		)},
	}}}
	f := &fixture{servertest.Fresh(t, servertest.Config{Types: append(types(), method)})}
	f.Must(t, 204, "POST", "sys/auth/x", `{"type":"changing"}`)
	if r := f.Must(t, 200, "POST", "auth/x/login", "{}", "X-Vault-Token: "); checks != 3 || r.Get("auth", "client_token") == nil {
		t.Errorf("%d checks: %s", checks, r.Text)
	}
	refuse = true
	if r := f.Must(t, 400, "POST", "auth/x/login", "{}", "X-Vault-Token: "); checks != 6 || r.Errors() != "not any more" {
		t.Errorf("%d checks: %s", checks, r.Text)
	}
}
