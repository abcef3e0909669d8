package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// TestKill kills a keep under writers again and again: it opens itself each time, every acknowledged write is there,
// and the store is clean at the end. SEALKEEP_LONG=1 makes it 40 rounds instead of 4.
func TestKill(t *testing.T) {
	rounds := 4
	if os.Getenv("SEALKEEP_LONG") != "" {
		rounds = 40
	}
	k := newKeep(t)
	k.start()
	token := k.init()
	acked := map[string]string{}
	for round := range rounds {
		k.writeUntilKilled(token, round, 20+rand.IntN(300), acked)
		k.start()
		for key, want := range acked {
			if got := k.read(token, key); got != want {
				t.Fatalf("round %d: %s is %q, not %q", round, key, got, want)
			}
		}
	}
	k.kill()
	k.check()
	t.Logf("%d rounds, %d acknowledged writes", rounds, len(acked))
}

// A process is a running keep with a static key.
type process struct {
	t       *testing.T
	program string
	config  string
	url     string
	web     *http.Client
	roots   *x509.CertPool // of its certificate; nil without TLS
	files   int            // that the process may have open; 0: as many as this one
	cmd     *exec.Cmd
}

func newKeep(t *testing.T) *process {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// TestMain runs the program when the test binary has its name.
	k := &process{t: t, program: filepath.Join(dir, "sealkeep"), config: filepath.Join(dir, "keep.hcl"), web: http.DefaultClient}
	if err := os.Symlink(self, k.program); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	k.url = "http://" + l.Addr().String()
	config := fmt.Sprintf("storage \"bbolt\" {\n  path = %q\n}\nlistener \"tcp\" {\n  address = %q\n}\nseal \"static\" {\n  current_key = %q\n  current_key_id = \"k\"\n}\n",
		k.store(), l.Addr(), "0123456789abcdef0123456789abcdef")
	if err := os.WriteFile(k.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.kill)
	return k
}

// start starts the process and waits until it answers, open or not initialized.
func (k *process) start() {
	k.t.Helper()
	k.launch()
	for deadline := time.Now().Add(patience); ; {
		resp, err := k.web.Get(k.url + "/v1/sys/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNotImplemented {
				return
			}
		}
		if time.Now().After(deadline) {
			k.kill()
			log, _ := os.ReadFile(k.log())
			k.t.Fatalf("not open within %v\n%s", patience, log)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (k *process) kill() {
	if k.cmd != nil {
		_ = k.cmd.Process.Kill()
		_ = k.cmd.Wait() // "signal: killed"
		k.cmd = nil
	}
}

// check runs the storage check on the keep, which is not running.
func (k *process) check() {
	k.t.Helper()
	if out, err := exec.Command(k.program, "operator", "storage", "check", "-config="+k.config).CombinedOutput(); err != nil {
		k.t.Fatalf("the store is not clean: %v\n%s", err, out)
	}
}

// log is the file with what the process has said, of every start.
func (k *process) log() string { return filepath.Join(filepath.Dir(k.config), "log") }

func (k *process) store() string { return filepath.Join(filepath.Dir(k.config), "keep.db") }

func (k *process) call(token, method, path, body string, into any) (int, error) {
	req, err := http.NewRequest(method, k.url+"/v1/"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := k.web.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && into != nil {
		err = json.Unmarshal(b, into)
	}
	return resp.StatusCode, err
}

func (k *process) init() string {
	k.t.Helper()
	var out struct {
		RootToken string `json:"root_token"`
	}
	if status, err := k.call("", "PUT", "sys/init", "{}", &out); status != http.StatusOK || err != nil {
		k.t.Fatalf("init: %d %v", status, err)
	}
	return out.RootToken
}

func (k *process) read(token, key string) string {
	k.t.Helper()
	return k.readAt(token, "secret", key)
}

// readAt reads a secret of a mount of version 2.
func (k *process) readAt(token, mount, key string) string {
	k.t.Helper()
	var out struct {
		Data struct {
			Data struct {
				V string `json:"v"`
			} `json:"data"`
		} `json:"data"`
	}
	if status, err := k.call(token, "GET", mount+"/data/"+key, "", &out); status != http.StatusOK || err != nil {
		k.t.Fatalf("reading %s: %d %v", key, status, err)
	}
	return out.Data.Data.V
}

// writeUntilKilled writes from eight goroutines and kills the process when n writes were acknowledged. It adds those
// to acked.
func (k *process) writeUntilKilled(token string, round, n int, acked map[string]string) {
	k.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	enough := make(chan bool)
	count := 0
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key, value := fmt.Sprintf("round%d/w%d/%d", round, w, i), strconv.Itoa(rand.Int())
				status, err := k.call(token, "POST", "secret/data/"+key, `{"data":{"v":"`+value+`"}}`, nil)
				if err != nil {
					return // killed
				}
				if status != http.StatusOK {
					k.t.Errorf("writing %s: status %d", key, status)
					return
				}
				mu.Lock()
				acked[key] = value
				if count++; count == n {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	idle := make(chan bool)
	go func() { wg.Wait(); close(idle) }()
	select {
	case <-enough:
	case <-idle:
		k.t.Error("the writers gave up")
	}
	k.kill()
	<-idle
}

// run runs a command of the program against the keep.
func (k *process) run(token string, args ...string) (code int, out string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.program, args...)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+k.url, "VAULT_TOKEN="+token)
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		k.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(b)
}

// awaitHealth waits until the keep answers with this status.
func (k *process) awaitHealth(want int) {
	k.t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		if status, err := k.call("", "GET", "sys/health", "", nil); err == nil && status == want {
			return
		} else if time.Now().After(deadline) {
			k.t.Fatalf("health is %d, %v, not %d", status, err, want)
		}
	}
}

// launch starts the process and waits for nothing.
func (k *process) launch() {
	k.t.Helper()
	log, err := os.OpenFile(k.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close()
	k.cmd = exec.Command(k.program, "server", "-config="+k.config)
	if k.files > 0 {
		k.cmd = exec.Command("/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" server "-config=$1"`, k.files), k.program, k.config)
	}
	k.cmd.Stderr = log
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
}
