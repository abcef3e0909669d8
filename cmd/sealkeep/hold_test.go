package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What somebody has sealed stays sealed in the real program: over a kill with -keep, until a restart without; and over the
// operator's socket root opens it.
func TestOperatorSealHolds(t *testing.T) {
	k := newKeep(t)
	dir, err := os.MkdirTemp("", "sk") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "operator.sock")
	f, err := os.OpenFile(k.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "listener \"unix\" {\n  address = %q\n  operator = true\n}\n", socket)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	k.start()
	token := k.init()
	refused := func() {
		t.Helper()
		if code, out := k.run(token, "operator", "unseal"); code != 1 || !strings.Contains(out, "sealed by request") {
			t.Errorf("a bare unseal: %d\n%s", code, out)
		}
		if code, out := k.run("", "status"); code != 2 || !strings.Contains(out, "sealed by request") {
			t.Errorf("status: %d\n%s", code, out)
		}
	}
	if code, out := k.run(token, "operator", "seal", "-keep"); code != 0 {
		t.Fatal(out)
	}
	refused()
	k.kill()
	k.launch()
	k.awaitHealth(http.StatusServiceUnavailable)
	refused()
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}
	code, out := k.run("", "operator", "unseal", "-address=unix://"+socket)
	if root := os.Geteuid() == 0; (code == 0) != root {
		t.Errorf("uid %d over the operator's socket: %d\n%s", os.Geteuid(), code, out)
	}
	if err := os.Remove(k.store() + ".held"); err == nil { // left where nobody was root
		k.kill()
		k.start()
	}
	k.awaitHealth(http.StatusOK)

	if code, out := k.run(token, "operator", "seal"); code != 0 {
		t.Fatal(out)
	}
	refused()
	k.kill()
	k.start() // waits until it is open
	k.kill()
	k.check()
}
