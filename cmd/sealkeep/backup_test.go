package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What comes from a keep, or from what is between, is not believed: a file appears only for a backup that came whole.
func TestBackupDownload(t *testing.T) {
	body := []byte(strings.Repeat("ciphertext ", 200_000))
	good := fmt.Sprintf("%08x", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	for _, tt := range []struct {
		name   string
		status int
		sum    string
		send   int
		code   int
		want   string // in the output
	}{
		{"whole", 200, good, len(body), 0, fmt.Sprint(len(body), " bytes")},
		{"another checksum", 200, "00000000", len(body), 2, "its checksum differs"},
		{"cut off", 200, good, len(body) - 1, 2, fmt.Sprintf("cut off after %d of %d bytes", len(body)-1, len(body))},
		{"nothing of it", 200, good, 0, 2, "cut off after 0 of"},
		{"not a backup", 200, "", len(body), 2, "the answer is no backup"},
		{"refused", 429, good, len(body), 2, "another backup"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if tt.status != 200 {
					w.WriteHeader(tt.status)
					fmt.Fprint(w, `{"errors":["another backup"]}`)
					return
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				w.Header().Set("X-Sealkeep-Store", "id")
				if tt.sum != "" {
					w.Header().Set("X-Sealkeep-Crc32c", tt.sum)
				}
				w.Write(body[:tt.send])
			}))
			defer web.Close()
			dir := t.TempDir()
			path := filepath.Join(dir, "b.db")
			if err := os.WriteFile(path, []byte("the last one"), 0o644); err != nil {
				t.Fatal(err)
			}
			env := map[string]string{"VAULT_ADDR": web.URL, "VAULT_TOKEN": "t"}
			code, out, errs := runLine(t, env, "", "operator", "backup", "-force", path)
			if code != tt.code || !strings.Contains(out+errs, tt.want) {
				t.Errorf("code %d: %s%s", code, out, errs)
			}
			got, err := os.ReadFile(path)
			if err != nil || tt.code == 0 != (string(got) == string(body)) || tt.code != 0 != (string(got) == "the last one") {
				t.Errorf("the file has %d bytes, %v", len(got), err)
			}
			if fi, err := os.Stat(path); tt.code == 0 && (err != nil || fi.Mode().Perm() != 0o600) {
				t.Errorf("mode %v, %v", fi.Mode(), err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if code, out, _ := runLine(t, env, "", "operator", "backup", "-"); code != tt.code || tt.code == 0 && out != string(body) {
				t.Errorf("to standard output: code %d, %d bytes", code, len(out))
			}
		})
	}
}

// Writers write on, each its keys in order, while backups are taken with the real program. Each of them, restored, is clean and
// has of every writer all keys up to some key.
func TestBackupUnderLoad(t *testing.T) {
	k := newKeep(t)
	k.start()
	token := k.init()
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if status, err := k.call(token, "POST", fmt.Sprintf("secret/data/w%d/%06d", w, i), `{"data":{"v":"`+strings.Repeat("x", 2000)+`"}}`, nil); status != 200 || err != nil {
					t.Errorf("writing: %d %v", status, err)
					return
				}
			}
		})
	}
	var backups []string
	for n := range 3 {
		path := filepath.Join(t.TempDir(), "b.db")
		backups = append(backups, path)
		cmd := exec.Command(k.program, "operator", "backup", path)
		cmd.Env = append(os.Environ(), "VAULT_ADDR="+k.url, "VAULT_TOKEN="+token)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("backup %d: %v\n%s", n, err, out)
		}
	}
	stop()
	writers.Wait()
	k.kill()
	slices.Reverse(backups)
	for _, path := range backups {
		k.restore(path)
		k.check()
		k.start()
		total := 0
		for w := range 4 {
			var out struct{ Data struct{ Keys []string } }
			status, err := k.call(token, "LIST", fmt.Sprintf("secret/metadata/w%d", w), "", &out)
			if status != 200 && status != 404 || err != nil {
				t.Fatalf("listing: %d %v", status, err)
			}
			for i, key := range out.Data.Keys {
				if key != fmt.Sprintf("%06d", i) {
					t.Fatalf("writer %d: key %d is %s", w, i, key)
				}
			}
			total += len(out.Data.Keys)
		}
		k.kill()
		t.Logf("%d keys", total)
	}
}

func (k *process) restore(path string) {
	k.t.Helper()
	if out, err := exec.Command(k.program, "operator", "restore", "-force", "-config="+k.config, path).CombinedOutput(); err != nil {
		k.t.Fatalf("restoring: %v\n%s", err, out)
	}
}

// A restore that is killed at any moment leaves the old store or the new one, and what it leaves beside goes when the keep
// starts.
func TestKillRestore(t *testing.T) {
	rounds := 6
	if os.Getenv("SEALKEEP_LONG") != "" {
		rounds = 100
	}
	k := newKeep(t)
	k.start()
	token := k.init()
	put := func(v string) {
		t.Helper()
		if status, err := k.call(token, "POST", "secret/data/x", `{"data":{"v":"`+v+`"}}`, nil); status != 200 || err != nil {
			t.Fatalf("writing: %d %v", status, err)
		}
	}
	put("in the backup")
	path := filepath.Join(t.TempDir(), "b.db")
	cmd := exec.Command(k.program, "operator", "backup", path)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+k.url, "VAULT_TOKEN="+token)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	outcomes := map[string]int{}
	for range rounds {
		put("after it")
		k.kill()
		cmd := exec.Command(k.program, "operator", "restore", "-force", "-config="+k.config, path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(rand.IntN(40)) * time.Millisecond) // the moment is the test
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		k.check()
		k.start()
		outcomes[k.read(token, "x")]++
	}
	if n := outcomes["in the backup"] + outcomes["after it"]; n != rounds {
		t.Errorf("%v", outcomes)
	}
	t.Logf("%v", outcomes)
	err := filepath.WalkDir(filepath.Dir(k.store()), func(path string, d fs.DirEntry, err error) error {
		if strings.HasPrefix(d.Name(), ".keep.db") {
			t.Errorf("left behind: %s", d.Name())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
