package storage

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
)

// Limits of paths and values, in bytes and segments.
const (
	MaxSegment = 1024
	MaxPath    = 4096
	MaxDepth   = 32
	MaxValue   = 1 << 20
)

const sivSize = 16

// topParent is the associated data of a path's first segment.
var topParent = []byte("sealkeep/1 names")

// checkPath refuses what cannot be the path of a value.
func checkPath(path string) error {
	if len(path) > MaxPath {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrPath, len(path), MaxPath)
	}
	depth := 0
	for seg := range strings.SplitSeq(path, "/") {
		switch depth++; {
		case seg == "":
			return fmt.Errorf("%w: empty segment", ErrPath)
		case len(seg) > MaxSegment:
			return fmt.Errorf("%w: segment of %d bytes, at most %d", ErrPath, len(seg), MaxSegment)
		case depth > MaxDepth:
			return fmt.Errorf("%w: more than %d segments", ErrPath, MaxDepth)
		}
	}
	return nil
}

// encodePath turns a checked path into its stored key. The empty path is the
// top folder, with an empty key.
func (k *keyring) encodePath(path string) ([]byte, error) {
	folder, leaf := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		folder, leaf = path[:i], path[i+1:]
	}
	if path == "" {
		return nil, nil
	}
	prefix, ok := k.folders.get(folder)
	if !ok {
		var err error
		if prefix, err = k.encodePath(folder); err != nil {
			return nil, err
		}
		k.folders.put(folder, prefix)
	}
	ct, err := k.names.EncryptDeterministically([]byte(leaf), parentTag(prefix))
	if err != nil {
		return nil, fmt.Errorf("encrypting name: %w", err)
	}
	key := make([]byte, 0, len(prefix)+2+len(ct))
	key = append(key, prefix...)
	key = binary.BigEndian.AppendUint16(key, uint16(len(ct)))
	return append(key, ct...), nil
}

// folderCache remembers the stored keys of some folders, since most paths
// share theirs. It forgets them all when it is full.
type folderCache struct {
	mu   sync.RWMutex
	keys map[string][]byte
}

const (
	maxFolders      = 4096
	maxCachedFolder = 256 // bytes
)

func (c *folderCache) get(folder string) ([]byte, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	key, ok := c.keys[folder]
	return key, ok
}

func (c *folderCache) put(folder string, key []byte) {
	if len(folder) > maxCachedFolder {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxFolders {
		c.keys = make(map[string][]byte)
	}
	c.keys[strings.Clone(folder)] = key
}

// firstSegment cuts the first encrypted segment from a stored key.
func firstSegment(key []byte) (seg, rest []byte, ok bool) {
	if len(key) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(key))
	if n < sivSize || n > sivSize+MaxSegment || len(key) < 2+n {
		return nil, nil, false
	}
	return key[2 : 2+n], key[2+n:], true
}

// parentTag returns the associated data for the children of the folder with
// this stored key.
func parentTag(key []byte) []byte {
	parent := topParent
	for len(key) > 0 {
		seg, rest, ok := firstSegment(key)
		if !ok {
			break
		}
		parent, key = seg[:sivSize], rest
	}
	return parent
}

// decodePath is the inverse of encodePath. Its error names the last folder
// whose names still authenticate.
func (k *keyring) decodePath(key []byte) (string, error) {
	var path strings.Builder
	parent := topParent
	for len(key) > 0 {
		seg, rest, ok := firstSegment(key)
		if !ok {
			return "", corrupt("a name under "+quote(path.String()), "malformed key")
		}
		name, err := k.names.DecryptDeterministically(seg, parent)
		if err != nil {
			return "", corrupt("a name under "+quote(path.String()), "does not authenticate")
		}
		if path.Len() > 0 {
			path.WriteByte('/')
		}
		path.Write(name)
		parent, key = seg[:sivSize], rest
	}
	return path.String(), nil
}

func quote(path string) string { return fmt.Sprintf("%q", path) }
