package keep_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
)

// sys/seal holds: what anybody may ask does not open the keep again.
func TestABareUnsealDoesNotLiftASeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		f, shares := peopled(t, a, 2, 2)
		f.Must(t, 204, "PUT", "sys/seal", "")
		bare := func(when string) {
			t.Helper()
			for _, token := range []string{"X-Vault-Token: " + f.Root, "X-Vault-Token: "} {
				for _, body := range []string{"", `{}`, `{"key":""}`} {
					r := f.Must(t, 403, "PUT", "sys/unseal", body, token)
					if !strings.Contains(r.Errors(), "restart the server") || !strings.Contains(r.Errors(), "operator = true") {
						t.Errorf("%s: %s", when, r.Text)
					}
				}
			}
			if st := f.Status(); !st.Sealed || !st.Held || st.KeepHeld {
				t.Fatalf("%s: %+v", when, st)
			}
		}
		bare("at once")
		f.Must(t, 400, "PUT", "sys/unseal", `{"key":"nonsense"}`)
		f.Must(t, 200, "PUT", "sys/unseal", `{"reset":true}`)
		bare("after a reset")
		f.reload(a.Again())
		bare("after a reload")
		time.Sleep(time.Hour)
		bare("after an hour")
		if f.Metric(t, "sealkeep_held") != "1" {
			t.Error("no metric says so")
		}
		f.give(t, shares[0])
		bare("after one share")
		if r := f.give(t, shares[1]); r.Get("sealed") != false || r.Get("held") != false {
			t.Errorf("shares: %s", r.Text)
		}
		f = f.restart(t, a.Again())
		f.OpenWithin(t, time.Second)
		if strings.Contains(f.Log.String(), "lifted by restart") {
			t.Error("the hold had been lifted before")
		}

		f.Must(t, 204, "PUT", "sys/seal", "")
		f = f.restart(t, a.Again())
		f.OpenWithin(t, time.Second)
		if strings.Count(f.Log.String(), "lifted by restart") != 1 {
			t.Error("the log does not say that the restart lifted it")
		}
		f = f.restart(t, a.Again())
		if f.OpenWithin(t, time.Second); strings.Contains(f.Log.String(), "lifted by restart") {
			t.Error("the log says it twice")
		}
	})
}

// sys/seal with keep holds over restarts, until people lift it.
func TestASealThatIsKeptSurvivesRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		f, shares := peopled(t, a, 1, 1)
		f.Must(t, 400, "PUT", "sys/seal", `{"keep":"soon"}`)
		f.Must(t, 204, "PUT", "sys/seal", `{"keep":true}`)
		for range 2 {
			f = f.restart(t, a.Again())
			time.Sleep(time.Hour)
			if r := f.Must(t, 200, "GET", "sys/seal-status", ""); r.Get("sealed") != true || r.Get("held") != true || r.Get("held_keep") != true {
				t.Fatal(r.Text)
			}
			f.Must(t, 403, "PUT", "sys/unseal", "{}")
			if !strings.Contains(f.Log.String(), "to stay so over restarts") {
				t.Error("the log does not say so")
			}
		}
		if r := f.give(t, shares[0]); r.Get("sealed") != false || r.Get("held_keep") != false {
			t.Fatal(r.Text)
		}
		f = f.restart(t, a.Again())
		f.OpenWithin(t, time.Second)

		// A mark that cannot be read holds, too.
		f.Stop(t)
		if err := os.WriteFile(f.Path+keep.HoldSuffix, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		f = f.restart(t, a.Again())
		time.Sleep(time.Minute)
		if st := f.Status(); !st.Sealed || !st.KeepHeld {
			t.Errorf("%+v", st)
		}
		if err := f.Unseal(t.Context()); err != nil || f.Status().Sealed { // whoever runs the program may
			t.Errorf("%+v, %v", f.Status(), err)
		}
		if _, err := os.Stat(f.Path + keep.HoldSuffix); !os.IsNotExist(err) {
			t.Errorf("the mark is still there: %v", err)
		}
	})
}

// A seal that cannot be written down seals all the same, and says what is missing.
func TestASealThatCannotBeWrittenDownSealsAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := peopled(t, servertest.NewSeal("a", 1), 0, 0)
		if err := os.MkdirAll(filepath.Join(f.Path+keep.HoldSuffix, "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		if r := f.Must(t, 500, "PUT", "sys/seal", `{"keep":true}`); !strings.Contains(r.Errors(), "the keep is sealed, but") {
			t.Error(r.Text)
		}
		if st := f.Status(); !st.Sealed || !st.Held || st.KeepHeld {
			t.Errorf("%+v", st)
		}
		if err := os.RemoveAll(f.Path + keep.HoldSuffix); err != nil {
			t.Fatal(err)
		}
	})
}

// Root lifts a seal over a listener that says operator = true, and nobody else
// does, nor anything that came through a proxy.
func TestOnlyRootOverTheOperatorsListenerLiftsASeal(t *testing.T) {
	f := fresh(t)
	serve := func(l server.Listener) string {
		t.Helper()
		address := "@sealkeep-test-" + strings.ReplaceAll(t.Name(), "/", "-") + time.Now().Format("150405.000000000") // open to every user
		socket, err := net.Listen("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		web := f.HTTPServer(l)
		go server.Serve(web, socket, nil)
		t.Cleanup(func() { web.Close() })
		return address
	}
	operators, plain := serve(server.Listener{Operator: true}), serve(server.Listener{})
	unseal := func(address string, uid int, headers ...string) int {
		t.Helper()
		tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialAs(uid)(ctx, network, address)
		}}
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://keep/v1/sys/unseal", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			req.Header[name] = []string{value}
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	root := os.Geteuid() == 0
	f.Keep.Seal()
	for _, h := range []string{"Forwarded: for=10.0.0.1", "X-Forwarded-For: 10.0.0.1", "x-forwarded-for: 10.0.0.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: keep", "X-Forwarded-Anything: ", "Via: 1.1 proxy", "via: "} {
		if code := unseal(operators, os.Geteuid(), h); code != 403 {
			t.Errorf("%s: %d", h, code)
		}
	}
	if code := unseal(plain, os.Geteuid()); code != 403 {
		t.Errorf("over another listener: %d", code)
	}
	if root {
		if code := unseal(operators, 65534); code != 403 {
			t.Errorf("nobody: %d", code)
		}
	}
	if st := f.Status(); !st.Sealed || !st.Held {
		t.Fatalf("%+v", st)
	}
	want := http.StatusForbidden
	if root {
		want = http.StatusOK
	}
	if code := unseal(operators, os.Geteuid()); code != want || f.Status().Sealed == root {
		t.Errorf("uid %d: %d, %+v", os.Geteuid(), code, f.Status())
	}
}
