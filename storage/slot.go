package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Slot is the root key wrapped by one seal, as stored beside the data. Any
// slot that can be opened opens the store.
type Slot struct {
	Name           string    `json:"name"`            // of the seal; unique in a store
	Type           string    `json:"type"`            // of the seal: "awskms", "transit", ...
	KeyID          string    `json:"key_id"`          // the key of the service that wrapped it
	RootGeneration uint64    `json:"root_generation"` // of the root key inside, from 1
	Blob           []byte    `json:"blob"`            // what the seal made; opaque here
	Created        time.Time `json:"created"`

	// Lock is the public part of what opens a slot of recovery shares; opaque here.
	Lock []byte `json:"lock,omitempty"`
	// Since is when a recovery slot was made to replace another one; zero for
	// every other slot.
	Since time.Time `json:"since,omitzero"`
}

const maxSlotSize = 128 << 10

// Context returns the associated data under which a seal wraps this slot of the
// store with this UUID, so that a blob opens only in its own place.
func (s Slot) Context(uuid string) []byte {
	return associated(formatName, purposeSlot, uuid, s.Name, s.Type, strconv.FormatUint(s.RootGeneration, 10))
}

func (s Slot) encode() ([]byte, error) {
	j, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding slot: %w", err)
	}
	return append([]byte{1}, j...), nil
}

func decodeSlot(name string, rec []byte) (Slot, error) {
	var s Slot
	switch {
	case len(rec) < 1 || len(rec) > maxSlotSize:
		return s, corrupt("slot "+quote(name), "record of %d bytes", len(rec))
	case rec[0] != 1:
		return s, corrupt("slot "+quote(name), "unknown version %d", rec[0])
	}
	if err := json.Unmarshal(rec[1:], &s); err != nil || s.Name != name {
		return Slot{}, corrupt("slot "+quote(name), "malformed")
	}
	return s, nil
}

func (s Slot) entry(rec []byte) slotEntry {
	h := sha256.Sum256(rec)
	return slotEntry{Name: s.Name, Type: s.Type, KeyID: s.KeyID, SHA256: h[:]}
}

// readSlots reads the table as stored on disk. bad names the records that do not
// decode.
func readSlots(t *tree) (slots []Slot, bad []string, err error) {
	c := cursor{tree: t}
	for k, v := c.Seek(nil); k != nil; k, v = c.Next() {
		if s, err := decodeSlot(string(k), v); err != nil {
			bad = append(bad, string(k))
		} else {
			slots = append(slots, s)
		}
	}
	return slots, bad, c.err
}

// RootKey returns a copy of the root key and its generation, for wrapping it
// again: the caller clears it. ErrSealed if there is none in memory.
func (s *Store) RootKey() (root []byte, generation uint64, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := s.state.Load().keys
	if keys == nil {
		return nil, 0, ErrSealed
	}
	return bytes.Clone(keys.root), keys.RootGeneration, nil
}

// SlotTable is the table of slots of one state of an unsealed store.
type SlotTable struct {
	// Trusted lists the slots of the keyring's list whose record on disk is the
	// one that was written: nobody else made or changed them.
	Trusted []Slot
	// Missing names the slots of the list that are gone or were changed.
	Missing []string
	// Quarantined names the records on disk that are not in the list, or
	// differ from it. They are never used; Others holds those that decode.
	Quarantined []string
	Others      []Slot
}

// SlotTable reads the table of slots. ErrSealed.
func (s *Store) SlotTable() (table SlotTable, err error) {
	err = s.raw(func(ts *trees, k *keyring) error {
		if k == nil {
			return ErrSealed
		}
		known := make(map[string][]byte, len(k.Slots))
		for _, e := range k.Slots {
			known[e.Name] = e.SHA256
		}
		found := make(map[string]Slot, len(k.Slots))
		t, err := ts.of(bucketSlots)
		if err != nil {
			return err
		}
		c := cursor{tree: t}
		for key, rec := c.Seek(nil); key != nil; key, rec = c.Next() {
			name, h := string(key), sha256.Sum256(rec)
			slot, err := decodeSlot(name, rec)
			switch {
			case err == nil && bytes.Equal(known[name], h[:]):
				found[name] = slot
				continue
			case err == nil:
				table.Others = append(table.Others, slot)
			}
			table.Quarantined = append(table.Quarantined, name)
		}
		for _, e := range k.Slots { // in the order of the list
			if slot, ok := found[e.Name]; ok {
				table.Trusted = append(table.Trusted, slot)
			} else {
				table.Missing = append(table.Missing, e.Name)
			}
		}
		return c.err
	})
	return table, err
}

// TrustedSlots returns Trusted and Missing of the SlotTable.
func (s *Store) TrustedSlots() (slots []Slot, missing []string, err error) {
	table, err := s.SlotTable()
	return table.Trusted, table.Missing, err
}

// Revoked is a slot that must not hold the root key again, since somebody else
// can use its key. The keyring bars its name, and its type and key ID under any
// name.
type Revoked struct {
	Name  string    `json:"name"`
	Type  string    `json:"type"`
	KeyID string    `json:"key_id"`
	Since time.Time `json:"since"`

	// People open it. The slot of other people has the same name, so the name
	// alone is no bar.
	People bool `json:"people,omitempty"`
}

// Bars reports whether a slot must not hold the root key because of r.
func (r Revoked) Bars(slot Slot) bool {
	return !r.People && r.Name == slot.Name || r.KeyID != "" && r.Type == slot.Type && r.KeyID == slot.KeyID
}

// Revoked lists the revoked slots of an unsealed store.
func (s *Store) Revoked() ([]Revoked, error) {
	k := s.state.Load().keys
	if k == nil {
		return nil, ErrSealed
	}
	return slices.Clone(k.Revoked), nil
}

func (k *keyring) checkRevoked(slot Slot) error {
	for _, r := range k.Revoked {
		if r.Bars(slot) {
			return fmt.Errorf("%w on %s: slot %s with the key %s", ErrRevoked, r.Since.UTC().Format(time.DateOnly), quote(r.Name), quote(r.KeyID))
		}
	}
	return nil
}

// putReader records in the unencrypted header which programs can read the keyring
// k, so that an older program refuses the store at its start.
func (s *trees) putReader(k *keyring) error {
	h, err := readHeader(s)
	if err != nil {
		return err
	}
	reader := max(readerVersion, k.Version)
	if h.Reader == reader {
		return nil
	}
	h.Reader = reader
	head, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encoding header: %w", err)
	}
	return s.btx.Bucket(bucketMeta).Put(keyHeader, head)
}

// PutSlot adds a slot, or replaces the one of that name, and removes the slots
// named in gone, all in one commit of their own. It is not an error if a name in
// gone has no slot. ErrGeneration: the slot holds another root key than the one
// in use. ErrRevoked: the slot was revoked; see AllowSlot.
func (s *Store) PutSlot(ctx context.Context, slot Slot, gone ...string) error {
	return s.addSlot(ctx, slot, gone, false)
}

// AllowSlot is like PutSlot, but also accepts a revoked slot and lifts the
// revocation.
func (s *Store) AllowSlot(ctx context.Context, slot Slot) error {
	return s.addSlot(ctx, slot, nil, true)
}

func (s *Store) addSlot(ctx context.Context, slot Slot, gone []string, allow bool) error {
	rec, err := slot.encode()
	if err == nil {
		err = checkSlot(slot, rec)
	}
	if err == nil {
		err = s.changeKeyring(ctx, func(ts *trees, old *keyring) (*keyring, error) {
			if slot.RootGeneration != old.RootGeneration {
				return nil, fmt.Errorf("%w: %d, not %d", ErrGeneration, slot.RootGeneration, old.RootGeneration)
			}
			if err := old.checkRevoked(slot); err != nil && !allow {
				return nil, err
			}
			for _, name := range gone {
				if err := ts.putSlot(name, nil); err != nil {
					return nil, err
				}
			}
			if err := ts.putSlot(slot.Name, rec); err != nil {
				return nil, err
			}
			k, err := old.change(func(j *keyringJSON) {
				j.Slots = slices.DeleteFunc(j.Slots, func(e slotEntry) bool { return e.Name == slot.Name || slices.Contains(gone, e.Name) })
				j.Slots = append(j.Slots, slot.entry(rec))
				j.Revoked = slices.DeleteFunc(j.Revoked, func(r Revoked) bool { return r.Bars(slot) })
			})
			if err != nil {
				return nil, err
			}
			return k, ts.putReader(k)
		})
	}
	if err != nil {
		return fmt.Errorf("writing slot %s: %w", quote(slot.Name), err)
	}
	return nil
}

// RemoveSlot removes a slot, alone in its commit. It also removes a record that
// the keyring does not know. ErrNoSlot: there is none of that name. ErrLastSlot:
// nothing would open the store any more. Older copies of the file still have
// the slot, and it opens them.
func (s *Store) RemoveSlot(ctx context.Context, name string) error {
	err := s.changeKeyring(ctx, func(ts *trees, old *keyring) (*keyring, error) {
		rec, err := ts.get(bucketSlots, []byte(name))
		if err != nil {
			return nil, err
		}
		listed := slices.ContainsFunc(old.Slots, func(e slotEntry) bool { return e.Name == name })
		switch {
		case !listed && rec == nil:
			return nil, ErrNoSlot
		case listed && len(old.Slots) == 1:
			return nil, ErrLastSlot
		}
		if err := ts.putSlot(name, nil); err != nil {
			return nil, err
		}
		return old.change(func(j *keyringJSON) {
			j.Slots = slices.DeleteFunc(j.Slots, func(e slotEntry) bool { return e.Name == name })
		})
	})
	if err != nil {
		return fmt.Errorf("removing slot %s: %w", quote(name), err)
	}
	return nil
}

// RotateRoot replaces the root key with root, and all slots with slots, which hold
// root, in one commit. It also begins a new term, since a holder of the old root key
// had the barrier's keys. ErrGeneration: a slot's generation is not the next one.
// The store remembers revoke as revoked. ErrRevoked: one of slots was revoked, now
// or before. Older copies of the file still open as they did, and a holder of the
// old root key can still read names.
func (s *Store) RotateRoot(ctx context.Context, root []byte, slots []Slot, revoke ...Revoked) error {
	root = bytes.Clone(root)
	err := s.rotateRoot(ctx, root, slots, revoke)
	if err != nil {
		return fmt.Errorf("rotating the root key: %w", err)
	}
	return nil
}

func (s *Store) rotateRoot(ctx context.Context, root []byte, slots []Slot, revoke []Revoked) error {
	if len(slots) == 0 {
		return ErrLastSlot
	}
	if len(root) != rootKeySize {
		return fmt.Errorf("%w: %d bytes, not %d", ErrRootKey, len(root), rootKeySize)
	}
	recs, entries := make([][]byte, len(slots)), make([]slotEntry, len(slots))
	for i, slot := range slots {
		var err error
		if recs[i], err = slot.encode(); err != nil {
			return err
		}
		if err := checkSlot(slot, recs[i]); err != nil {
			return err
		}
		entries[i] = slot.entry(recs[i])
	}
	return s.changeKeyring(ctx, func(ts *trees, old *keyring) (*keyring, error) {
		for _, slot := range slots {
			if slot.RootGeneration != old.RootGeneration+1 {
				return nil, fmt.Errorf("%w: %d, not %d", ErrGeneration, slot.RootGeneration, old.RootGeneration+1)
			}
		}
		t, err := ts.of(bucketSlots)
		if err != nil {
			return nil, err
		}
		var names []string
		c := cursor{tree: t}
		for k, _ := c.Seek(nil); k != nil; k, _ = c.Next() {
			names = append(names, string(k))
		}
		if c.err != nil {
			return nil, c.err
		}
		for _, name := range names {
			if err := ts.putSlot(name, nil); err != nil {
				return nil, err
			}
		}
		for i, slot := range slots {
			if err := ts.putSlot(slot.Name, recs[i]); err != nil {
				return nil, err
			}
		}
		k, err := old.change(func(j *keyringJSON) {
			j.RootGeneration++
			j.Slots = entries
			for _, r := range revoke { // the last revocation of a name counts
				j.Revoked = slices.DeleteFunc(j.Revoked, func(known Revoked) bool { return known.Name == r.Name })
				j.Revoked = append(j.Revoked, r)
			}
			s.addTerm(j)
		})
		if err != nil {
			return nil, err
		}
		for _, slot := range slots {
			if err := k.checkRevoked(slot); err != nil {
				return nil, fmt.Errorf("slot %s: %w", quote(slot.Name), err)
			}
		}
		k.root = root
		return k, ts.putReader(k)
	})
}

// putSlot writes a slot's record, or deletes it if rec is nil.
func (s *trees) putSlot(name string, rec []byte) error {
	t, err := s.of(bucketSlots)
	if err != nil {
		return err
	}
	if err := t.deletable([]byte(name)); err != nil {
		return err
	}
	b := s.btx.Bucket(bucketSlots)
	if rec == nil {
		return b.Delete([]byte(name))
	}
	return b.Put([]byte(name), rec)
}

func checkSlot(s Slot, rec []byte) error {
	switch {
	case s.Name == "" || len(s.Name) > MaxSegment:
		return fmt.Errorf("%w: the name has %d bytes, not 1 to %d", ErrPath, len(s.Name), MaxSegment)
	case len(rec) > maxSlotSize:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(rec), maxSlotSize)
	}
	return nil
}

// quarantine compares the table on disk with the keyring's list, and returns the
// names of slots that are not in the list or differ from it.
func (k *keyring) quarantine(t *tree) (names []string, err error) {
	known := make(map[string][]byte, len(k.Slots))
	for _, e := range k.Slots {
		known[e.Name] = e.SHA256
	}
	c := cursor{tree: t}
	for name, rec := c.Seek(nil); name != nil; name, rec = c.Next() {
		h := sha256.Sum256(rec)
		if !bytes.Equal(known[string(name)], h[:]) {
			names = append(names, string(name))
		}
	}
	return names, c.err
}
