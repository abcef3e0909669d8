package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Slot is the root key wrapped by one seal, as stored beside the data. Any
// slot that a key service opens opens the store.
type Slot struct {
	Name           string    `json:"name"`            // of the seal; unique in a store
	Type           string    `json:"type"`            // of the seal: "awskms", "transit", ...
	KeyID          string    `json:"key_id"`          // which key of the service wrapped it
	RootGeneration uint64    `json:"root_generation"` // of the root key inside, from 1
	Blob           []byte    `json:"blob"`            // what the seal made; opaque here
	Created        time.Time `json:"created"`
}

const maxSlotSize = 128 << 10

// Context is the associated data under which a seal wraps this slot of the
// store with this UUID: a blob opens in its own place only.
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

// readSlots reads the table as it stands on disk. Records that do not decode
// are named in bad.
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

// quarantine compares the table on disk with the keyring's list, and names the
// slots that the list does not know or knows otherwise.
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
