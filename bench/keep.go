package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/seal"
	"github.com/sealkeep/sealkeep/storage"
)

const (
	secretsPath = "/v1/secret/data/"
	readFolder  = "read/"
	patience    = 30 * time.Second // for a keep to start, and to stop

	secretSize = 1024 // bytes of a secret's one value
	secretData = `{"v":""}`
)

// secretBody is what a client sends to write a secret.
var secretBody = `{"data":` + newSecret() + `}`

func newSecret() string {
	return strings.Replace(secretData, `""`, `"`+strings.Repeat("x", secretSize)+`"`, 1)
}

// secretName is the i-th secret's, below readFolder.
func secretName(i int) string {
	return "f" + strconv.Itoa(i/perFolder) + "/k" + strconv.Itoa(i%perFolder)
}

// keep is a sealkeep with a store of its own, running or not.
type keep struct {
	program, dir, config, store string
	url, token                  string
	mount                       string // UUID of secret/
	cmd                         *exec.Cmd
	log                         *bytes.Buffer
	http                        http.Client
}

func newKeep(program, dir string) *keep {
	return &keep{program: program, dir: dir, config: filepath.Join(dir, "keep.hcl"), store: filepath.Join(dir, "keep.db"),
		http: http.Client{Transport: &http.Transport{}, Timeout: patience}}
}

// init makes the store, by the server, and stops it again.
func (k *keep) init(ctx context.Context) error {
	if err := os.Mkdir(k.dir, 0o700); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // to learn of a free port
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	l.Close()
	k.url = "http://" + l.Addr().String()
	key, id := seal.NewKey()
	text := fmt.Sprintf("storage \"bbolt\" {\n  path = %q\n}\nlistener \"tcp\" {\n  address = %q\n}\nseal \"static\" {\n  current_key    = %q\n  current_key_id = %q\n}\n",
		k.store, l.Addr(), key, id)
	if err := os.WriteFile(k.config, []byte(text), 0o600); err != nil {
		return err
	}
	if err := k.launch(); err != nil {
		return err
	}
	defer k.stop()
	if err := k.waitFor(ctx, http.StatusNotImplemented); err != nil {
		return err
	}
	var made struct {
		RootToken string `json:"root_token"`
	}
	if err := k.call(ctx, "PUT", "sys/init", `{"recovery_shares":0}`, &made); err != nil {
		return err
	}
	k.token = made.RootToken
	var mount struct {
		UUID string `json:"uuid"`
	}
	if err := k.call(ctx, "GET", "sys/mounts/secret", "", &struct{ Data any }{&mount}); err != nil {
		return err
	}
	k.mount = mount.UUID
	return nil
}

// start starts the process and tells how long it took to be open.
func (k *keep) start(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := k.launch(); err != nil {
		return 0, err
	}
	err := k.waitFor(ctx, http.StatusOK)
	return time.Since(began), err
}

func (k *keep) launch() error {
	k.log = new(bytes.Buffer)
	k.cmd = exec.Command(k.program, "server", "-config="+k.config)
	k.cmd.Env = []string{} // nothing of ours steers it
	k.cmd.Stderr = k.log
	if err := k.cmd.Start(); err != nil {
		k.cmd = nil
		return fmt.Errorf("starting a keep: %w", err)
	}
	return nil
}

// waitFor waits for a status of sys/health.
func (k *keep) waitFor(ctx context.Context, status int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if resp, err := k.http.Get(k.url + "/v1/sys/health"); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode == status {
				return nil
			}
		}
		if err := sleep(ctx, time.Millisecond/2); err != nil {
			k.stop() // before its log is read
			return fmt.Errorf("the keep does not answer %d: %w\n%s", status, err, k.log)
		}
	}
}

// stop ends the process if it runs.
func (k *keep) stop() {
	if k.cmd == nil {
		return
	}
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(patience, func() { _ = k.cmd.Process.Kill() })
	_ = k.cmd.Wait()
	kill.Stop()
	k.cmd = nil
	k.http.CloseIdleConnections()
}

func (k *keep) pid() int { return k.cmd.Process.Pid }

// call makes one request; anything but 2xx is an error. into may be nil.
func (k *keep) call(ctx context.Context, method, path, body string, into any) error {
	b, err := k.send(ctx, method, path, body)
	if err == nil && into != nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (k *keep) send(ctx context.Context, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, k.url+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", k.token)
	resp, err := k.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return b, err
}

// read is the answer to reading a secret.
func (k *keep) read(ctx context.Context) ([]byte, error) {
	return k.send(ctx, "GET", strings.TrimPrefix(secretsPath, "/v1/")+readFolder+secretName(0), "")
}

// write is the answer to writing a secret.
func (k *keep) write(ctx context.Context) ([]byte, error) {
	return k.send(ctx, "POST", strings.TrimPrefix(secretsPath, "/v1/")+"written/one", secretBody)
}

// list lists a folder and tells how long that took; it must have so many secrets.
func (k *keep) list(ctx context.Context, folder string, want int) (time.Duration, error) {
	var got struct{ Data struct{ Keys []string } }
	began := time.Now()
	b, err := k.send(ctx, "LIST", "secret/metadata/"+folder, "")
	took := time.Since(began)
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	if err == nil && len(got.Data.Keys) != want {
		err = fmt.Errorf("%d secrets, not %d", len(got.Data.Keys), want)
	}
	if err != nil {
		return 0, fmt.Errorf("listing %s: %w", folder, err)
	}
	return took, nil
}

func (k *keep) version(ctx context.Context) (string, error) {
	var health struct{ Version string }
	err := k.call(ctx, "GET", "sys/health", "", &health)
	return health.Version, err
}

// counters reads the keep's metrics.
func (k *keep) counters(ctx context.Context) (c counters, err error) {
	text, err := k.send(ctx, "GET", "sys/metrics", "")
	if err != nil {
		return c, fmt.Errorf("reading the metrics: %w", err)
	}
	for name, to := range map[string]*float64{"sealkeep_storage_commits_total": &c.commits, "sealkeep_storage_updates_total": &c.updates} {
		_, rest, ok := strings.Cut(string(text), "\n"+name+" ")
		value, _, _ := strings.Cut(rest, "\n")
		if *to, err = strconv.ParseFloat(value, 64); !ok || err != nil {
			return c, fmt.Errorf("reading the metrics: no %s: %w", name, err)
		}
	}
	return c, nil
}

// fill puts n secrets into the store of a keep that is stopped for it, through
// the storage and the engine alone: by the API a million would take minutes.
func (k *keep) fill(ctx context.Context, n int) (err error) {
	k.stop()
	store, err := k.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	data, err := kv.Parse("data", []byte(newSecret()))
	if err != nil {
		return err
	}
	engine, now := kv.Engine{Prefix: k.mount[len(k.mount)-12:]}, time.Now()
	for first := 0; first < n; first += perFolder {
		err := store.Update(ctx, func(tx *storage.Tx) error {
			for i := first; i < first+perFolder; i++ {
				if _, err := engine.Put(tx, readFolder+secretName(i), data, nil, now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// open opens the store as a keep does: with the slot that its seal opens.
func (k *keep) open(ctx context.Context) (*storage.Store, error) {
	conf, err := config.Load([]string{k.config}, nil)
	if err != nil {
		return nil, err
	}
	s, err := seal.New(conf.Seals[0])
	if err != nil {
		return nil, err
	}
	defer s.Close()
	store, err := storage.Open(k.store, storage.Options{})
	if err != nil {
		return nil, err
	}
	err = func() error {
		slots, err := store.Slots()
		if err != nil {
			return err
		}
		if len(slots) != 1 {
			return fmt.Errorf("the store has %d slots, not 1", len(slots))
		}
		root, err := s.Unwrap(ctx, slots[0].Blob, slots[0].Context(store.UUID()))
		if err != nil {
			return err
		}
		defer clear(root)
		return store.Unseal(root)
	}()
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}
