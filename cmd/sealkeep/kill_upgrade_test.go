package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// TestKillUpgrade kills a keep while it upgrades mounts of KV version 1, which are written meanwhile: after each start every
// secret has the value that was last acknowledged, an upgrade that was acknowledged holds, and each comes to its end.
// SEALKEEP_LONG=1 makes it 30 mounts instead of 2.
func TestKillUpgrade(t *testing.T) {
	t.Parallel()
	const secrets = 200
	mounts := 2
	if os.Getenv("SEALKEEP_LONG") != "" {
		mounts = 30
	}
	k := newKeep(t)
	k.start()
	token := k.init()
	upgrades := map[string]*upgrade{}
	versions, halfway := map[string]int{}, 0
	for n := range mounts {
		u := &upgrade{process: k, token: token, path: fmt.Sprint("plain", n), values: map[string]string{}}
		u.fill(secrets)
		for range 3 {
			killed := k.killWithin(20 * time.Millisecond)
			u.enable() // which has the upgrade go on if it was enabled before
			u.writeUntilKilled()
			<-killed
			k.kill()
			if left := k.secretsOfVersion1(map[string]*upgrade{u.uuid: u}); 0 < left && left < secrets {
				halfway++
			}
			k.start()
			u.check()
			versions[u.version]++
		}
		for u.version == "1" {
			u.enable()
			u.check()
		}
		upgrades[u.uuid] = u
	}
	for deadline := time.Now().Add(patience); ; k.start() {
		for _, u := range upgrades {
			u.enable()
		}
		for soon := time.Now().Add(time.Second); !k.hasUpgraded(upgrades) && time.Now().Before(soon); {
			<-time.After(5 * time.Millisecond) // a line may be missing: of the moment at which the process was killed
		}
		k.kill()
		left := k.secretsOfVersion1(upgrades)
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records of version 1 are left", left)
		}
	}
	k.check()
	k.start()
	for _, u := range upgrades {
		u.check()
	}
	t.Logf("%d mounts, of version %v after the kills, of which %d left some secrets converted", mounts, versions, halfway)
}

// upgrade is a mount that is upgraded.
type upgrade struct {
	*process
	token, path, uuid string
	version           string            // as the keep says
	values            map[string]string // acknowledged, by path
	pending           [2]string         // path and value of a write that has no answer
	enabled           bool              // the upgrade was acknowledged
}

// fill mounts version 1 with some secrets.
func (u *upgrade) fill(secrets int) {
	u.t.Helper()
	if status, err := u.call(u.token, "POST", "sys/mounts/"+u.path, `{"type":"kv-v1"}`, nil); status != http.StatusNoContent || err != nil {
		u.t.Fatalf("mounting: %d %v", status, err)
	}
	u.look()
	var wg sync.WaitGroup
	for w := range 8 {
		for i := w; i < secrets; i += 8 {
			u.values[fmt.Sprintf("folder%d/secret%d", i%3, i)] = strconv.Itoa(i)
		}
		wg.Go(func() {
			for i := w; i < secrets; i += 8 {
				path := fmt.Sprintf("%s/folder%d/secret%d", u.path, i%3, i)
				if status, err := u.call(u.token, "POST", path, fmt.Sprintf(`{"v":"%d"}`, i), nil); status != http.StatusNoContent || err != nil {
					u.t.Errorf("writing %s: %d %v", path, status, err)
				}
			}
		})
	}
	wg.Wait()
}

// enable asks for the upgrade.
func (u *upgrade) enable() {
	if status, err := u.call(u.token, "POST", "sys/mounts/"+u.path+"/tune", `{"options":{"version":"2"}}`, nil); err == nil {
		if status != http.StatusNoContent {
			u.t.Errorf("the upgrade is refused with %d", status)
		}
		u.enabled = true
	}
}

// writeUntilKilled writes secrets that are there, by version 2 once the upgrade was acknowledged.
func (u *upgrade) writeUntilKilled() {
	for {
		for path := range u.values {
			value := strconv.Itoa(rand.Int())
			u.pending = [2]string{path, value}
			at, body, want := u.path+"/"+path, `{"v":"`+value+`"}`, http.StatusNoContent
			if u.enabled {
				at, body, want = u.path+"/data/"+path, `{"data":`+body+`}`, http.StatusOK
			}
			status, err := u.call(u.token, "POST", at, body, nil)
			if err != nil {
				return
			}
			if status != want {
				u.t.Errorf("writing %s: %d", at, status)
			}
			u.values[path] = value
		}
	}
}

// look reads what the keep says of the mount.
func (u *upgrade) look() {
	u.t.Helper()
	var mount struct {
		Data struct {
			UUID    string            `json:"uuid"`
			Options map[string]string `json:"options"`
		} `json:"data"`
	}
	if status, err := u.call(u.token, "GET", "sys/mounts/"+u.path, "", &mount); status != http.StatusOK || err != nil {
		u.t.Fatalf("reading the mount: %d %v", status, err)
	}
	u.uuid, u.version = mount.Data.UUID, mount.Data.Options["version"]
}

// check reads every secret.
func (u *upgrade) check() {
	u.t.Helper()
	u.look()
	if u.enabled && u.version != "2" {
		u.t.Fatalf("an upgrade that was acknowledged is gone: the version is %q", u.version)
	}
	u.enabled = u.version == "2"
	for path, want := range u.values {
		var got string
		if u.enabled {
			got = u.readAt(u.token, u.path, path)
		} else {
			var out struct {
				Data struct{ V string } `json:"data"`
			}
			if status, err := u.call(u.token, "GET", u.path+"/"+path, "", &out); status != http.StatusOK || err != nil {
				u.t.Fatalf("reading %s: %d %v", path, status, err)
			}
			got = out.Data.V
		}
		if got != want && u.pending != [2]string{path, got} {
			u.t.Fatalf("%s/%s is %q, not %q", u.path, path, got, want)
		}
		u.values[path] = got
	}
	u.pending = [2]string{}
}

// hasUpgraded reports whether the log says of every mount that it is upgraded.
func (k *process) hasUpgraded(mounts map[string]*upgrade) bool {
	log, err := os.ReadFile(k.log())
	if err != nil {
		k.t.Fatal(err)
	}
	for uuid := range mounts {
		if !strings.Contains(string(log), `msg="upgraded a mount" type=kv mount=`+uuid) {
			return false
		}
	}
	return true
}

// secretsOfVersion1 counts what the store of a keep that does not run has of version 1.
func (k *process) secretsOfVersion1(mounts map[string]*upgrade) (left int) {
	k.t.Helper()
	_, seals, err := loadConfig([]string{k.config}, os.LookupEnv)
	if err != nil {
		k.t.Fatal(err)
	}
	defer closeAll(seals)
	store, err := storage.Open(k.store(), storage.Options{})
	if err != nil {
		k.t.Fatal(err)
	}
	defer store.Close()
	slots, err := store.Slots()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, slot := range slots {
		if slot.Type == seals[0].Type() {
			root, err := seals[0].Unwrap(k.t.Context(), slot.Blob, slot.Context(store.UUID()))
			if err == nil {
				err = store.Unseal(root)
			}
			if err != nil {
				k.t.Fatal(err)
			}
		}
	}
	err = store.View(k.t.Context(), func(tx *storage.Tx) error {
		for uuid := range mounts {
			mount := uuid[len(uuid)-12:] // where the records of a mount are
			if names, err := tx.List(mount); err != nil || len(names) == 0 {
				k.t.Errorf("the mount has no records: %v", err)
			}
			for folder := range 3 { // see fill
				names, err := tx.List(fmt.Sprintf("%s/1/folder%d", mount, folder))
				if err != nil {
					return err
				}
				left += len(names)
			}
		}
		return nil
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return left
}
