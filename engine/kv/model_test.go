package kv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// model is what the engine should be, said in the plainest way.
type model struct {
	mount   Config
	secrets map[string]*modelSecret
}

type modelSecret struct {
	Config
	current, oldest  uint64
	metadata         uint64 // writes of it
	created, updated time.Time
	versions         map[uint64]*modelVersion
}

type modelVersion struct {
	data              string
	created, deletion time.Time
	destroyed         bool
}

func (v *modelVersion) gone(now time.Time) bool {
	return v.destroyed || !v.deletion.IsZero() && !v.deletion.After(now)
}

func (m *model) deletion(s *modelSecret, now time.Time) time.Time {
	after := time.Duration(0)
	for _, d := range []time.Duration{m.mount.DeleteVersionAfter, s.DeleteVersionAfter} {
		if d > 0 && (after == 0 || d < after) {
			after = d
		}
	}
	if after == 0 || m.mount.DeleteVersionAfter < 0 {
		return time.Time{}
	}
	return now.Add(after)
}

func (m *model) secret(path string, now time.Time) *modelSecret {
	if m.secrets[path] == nil {
		m.secrets[path] = &modelSecret{created: now, versions: map[uint64]*modelVersion{}}
	}
	return m.secrets[path]
}

func (m *model) put(path, data string, cas *int, now time.Time) error {
	s := m.secrets[path]
	required, current := m.mount.CASRequired, 0
	if s != nil {
		required, current = required || s.CASRequired, int(s.current)
	}
	if cas == nil && required {
		return ErrCASRequired
	}
	if cas != nil && *cas != current {
		return ErrCASMismatch
	}
	s = m.secret(path, now)
	s.current++
	s.updated = now
	s.versions[s.current] = &modelVersion{data: data, created: now, deletion: m.deletion(s, now)}
	keep := 10
	if m.mount.MaxVersions > 0 {
		keep = int(m.mount.MaxVersions)
	}
	if s.MaxVersions > 0 {
		keep = int(s.MaxVersions)
	}
	if int(s.current)-int(s.oldest) >= keep {
		s.oldest = s.current - uint64(keep) + 1
	}
	for n := range s.versions {
		if n < s.oldest {
			delete(s.versions, n)
		}
	}
	return nil
}

func (m *model) putMetadata(path string, s Settings, change func(*Config), cas *int, now time.Time) error {
	if s == (Settings{}) {
		return nil
	}
	required, metadata := m.mount.MetadataCASRequired, 0
	if s := m.secrets[path]; s != nil {
		required, metadata = required || s.MetadataCASRequired, int(s.metadata)
	}
	switch {
	case cas == nil && required:
		return ErrMetadataCASRequired
	case cas != nil && *cas != metadata && m.secrets[path] == nil:
		return ErrInvalid
	case cas != nil && *cas != metadata:
		return ErrMetadataCASMismatch
	}
	secret := m.secret(path, now)
	secret.updated = now
	secret.metadata++
	change(&secret.Config)
	return nil
}

// records is the number of records that the secrets need.
func (m *model) records() (n int) {
	for _, s := range m.secrets {
		n++
		for i, v := range s.versions {
			if i != s.current && !v.destroyed {
				n++
			}
		}
	}
	return n
}

// TestModel does random things to the engine and to the model, and compares
// all that can be seen after each of them.
func TestModel(t *testing.T) { testModel(t, false) }

// TestModelUpgrading is TestModel on a mount that is being upgraded: there are
// secrets of version 1, too, and now and then they are converted.
func TestModelUpgrading(t *testing.T) { testModel(t, true) }

func testModel(t *testing.T, upgrading bool) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	k := newKeep(t)
	k.e.Upgrading = upgrading
	m := &model{secrets: map[string]*modelSecret{}}
	paths := []string{"a", "a/1", "a/b", "c"}
	pick := func() (n []uint64) {
		for range 1 + rnd.IntN(3) {
			n = append(n, uint64(rnd.IntN(25)))
		}
		return n
	}
	for step, began := 0, time.Now(); time.Since(began) < 2*time.Second; step++ {
		k.now = k.now.Add(time.Duration(rnd.IntN(40)) * time.Second)
		path := paths[rnd.IntN(len(paths))]
		s := m.secrets[path]
		versions := pick()
		if s != nil && rnd.IntN(2) == 0 {
			versions = append(versions, s.current, s.oldest)
		}
		each := func(fn func(v *modelVersion)) {
			for _, n := range versions {
				if s != nil && s.versions[n] != nil && !s.versions[n].destroyed {
					fn(s.versions[n])
				}
			}
		}
		settings := Settings{}
		if rnd.IntN(2) == 0 {
			settings.MaxVersions = new(rnd.IntN(6))
		}
		if rnd.IntN(2) == 0 {
			settings.CASRequired = new(rnd.IntN(4) == 0)
		}
		if rnd.IntN(2) == 0 {
			settings.MetadataCASRequired = new(rnd.IntN(4) == 0)
		}
		if rnd.IntN(2) == 0 {
			settings.DeleteVersionAfter = new(time.Duration(rnd.IntN(4)) * time.Minute)
		}
		change := func(c *Config) {
			if settings.MaxVersions != nil {
				c.MaxVersions = uint32(*settings.MaxVersions)
			}
			if settings.CASRequired != nil {
				c.CASRequired = *settings.CASRequired
			}
			if settings.MetadataCASRequired != nil {
				c.MetadataCASRequired = *settings.MetadataCASRequired
			}
			if settings.DeleteVersionAfter != nil {
				c.DeleteVersionAfter = *settings.DeleteVersionAfter
			}
		}

		var op string
		var err, want error
		switch n := rnd.IntN(100); {
		case upgrading && n < 5:
			op = "upgrade"
			_, err = k.e.Upgrade(k.view, k.update)
		case upgrading && n < 40 && s == nil:
			data := fmt.Sprintf(`{"step":%d}`, step)
			op, err = "put of version 1", k.putV1(path, data)
			s = m.secret(path, k.now)
			s.current, s.updated = 1, k.now
			s.versions[1] = &modelVersion{data: data, created: k.now}
		case n < 50:
			var cas *int
			if rnd.IntN(2) == 0 {
				cas = new(rnd.IntN(3))
				if s != nil {
					cas = new(int(s.current) + rnd.IntN(5)/4)
				}
			}
			data := fmt.Sprintf(`{"step":%d}`, step)
			op, want = "put", m.put(path, data, cas, k.now)
			_, err = k.put(path, data, cas)
		case n < 58:
			op, err = "delete", k.delete(path)
			if s != nil {
				versions = []uint64{s.current}
			}
			each(func(v *modelVersion) {
				if !v.gone(k.now) {
					v.deletion = k.now
				}
			})
		case n < 66:
			op, err = "delete versions", k.deleteVersions(path, versions...)
			each(func(v *modelVersion) {
				if !v.gone(k.now) {
					v.deletion = k.now
				}
			})
		case n < 76:
			op, err = "undelete", k.undelete(path, versions...)
			each(func(v *modelVersion) { v.deletion = m.deletion(s, k.now) })
		case n < 82:
			op, err = "destroy", k.destroy(path, versions...)
			each(func(v *modelVersion) { v.destroyed = true })
		case n < 92:
			var cas []int
			var at *int
			if rnd.IntN(2) == 0 {
				cas = []int{rnd.IntN(2)}
				if s != nil {
					cas[0] = int(s.metadata) + rnd.IntN(5)/4
				}
				at = &cas[0]
			}
			op, want = "put metadata", m.putMetadata(path, settings, change, at, k.now)
			err = k.putMetadata(path, settings, "", cas...)
		case n < 97:
			if settings.DeleteVersionAfter != nil && rnd.IntN(4) == 0 {
				*settings.DeleteVersionAfter = -time.Second
			}
			op, err = "put config", k.config(settings)
			change(&m.mount)
		default:
			op, err = "delete metadata", k.deleteMetadata(path)
			delete(m.secrets, path)
		}
		if !errors.Is(err, want) {
			t.Fatalf("seed %d step %d: %s of %s: %v, want %v", seed, step, op, path, err, want)
		}
		if diff := compare(k, m, paths); diff != "" {
			t.Fatalf("seed %d step %d: after %s of %s: %s", seed, step, op, path, diff)
		}
	}
	left := 0
	k.must(k.view(func(tx *storage.Tx) error {
		for _, path := range paths {
			if _, found, err := loadV1(tx, k.e.Prefix, path); err != nil {
				return err
			} else if found {
				left++
			}
		}
		return nil
	}))
	n, err := k.e.Upgrade(k.view, k.update)
	k.must(err)
	equal(t, "number of converted secrets", n, left)
	k.e.Upgrading = false
	if diff := compare(k, m, paths); diff != "" {
		t.Fatalf("seed %d: after the upgrade: %s", seed, diff)
	}
	records := 0
	for path := range k.dump() {
		if path != "config" {
			records++
		}
	}
	equal(t, "number of records", records, m.records())
}

func compare(k *keep, m *model, paths []string) (diff string) {
	k.must(k.view(func(tx *storage.Tx) error {
		for _, path := range paths {
			s := m.secrets[path]
			got, err := k.e.Metadata(tx, path)
			if s == nil {
				if !errors.Is(err, ErrNotFound) {
					diff = fmt.Sprintf("metadata of absent %s: %v", path, err)
				}
				continue
			}
			if err != nil {
				return err
			}
			want := Metadata{Config: s.Config, Current: s.current, Oldest: s.oldest, MetadataVersion: s.metadata, Created: s.created, Updated: s.updated, Versions: []Meta{}}
			for n := uint64(0); n <= s.current+1; n++ {
				v := s.versions[n]
				if n > 0 && v != nil {
					want.Versions = append(want.Versions, Meta{n, v.created, v.deletion, v.destroyed, nil})
				}
				if n == 0 {
					v = s.versions[s.current]
				}
				secret, err := k.e.Get(tx, path, n, k.now)
				switch {
				case v == nil && !errors.Is(err, ErrNotFound):
					diff = fmt.Sprintf("absent version %d of %s: %v", n, path, err)
				case v == nil:
				case err != nil:
					return err
				case v.gone(k.now) && secret.Data != nil:
					diff = fmt.Sprintf("version %d of %s is %s, want it gone", n, path, secret.Data)
				case !v.gone(k.now) && string(secret.Data) != v.data:
					diff = fmt.Sprintf("version %d of %s is %q, want %s", n, path, secret.Data, v.data)
				}
			}
			if g, w := string(got.AppendJSON(nil)), string(want.AppendJSON(nil)); g != w {
				diff = fmt.Sprintf("metadata of %s:\n got %s\nwant %s", path, g, w)
			}
		}
		return nil
	}))
	return strings.TrimSpace(diff)
}
