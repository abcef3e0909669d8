package storage

import (
	"encoding/binary"
	"fmt"
	"strings"
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

// checkPath refuses what cannot be a path of a value.
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
	if path == "" {
		return nil, nil
	}
	key := make([]byte, 0, len(path)+(strings.Count(path, "/")+1)*(2+sivSize))
	parent := topParent
	for seg := range strings.SplitSeq(path, "/") {
		ct, err := k.names.EncryptDeterministically([]byte(seg), parent)
		if err != nil {
			return nil, fmt.Errorf("encrypting name: %w", err)
		}
		key = binary.BigEndian.AppendUint16(key, uint16(len(ct)))
		key = append(key, ct...)
		parent = ct[:sivSize]
	}
	return key, nil
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

// parentTag is the associated data for the children of the folder that has
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

// decodePath is the inverse of encodePath. Its error names the folder up to
// which the names still authenticate.
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
