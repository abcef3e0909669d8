package storage

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/bits"
)

// digest is the sum over all live records, with the counters that every commit
// updates. See the package comment for its form on disk.
type digest struct {
	generation uint64 // of the store: one per commit
	keyring    uint64 // generation of the keyring that belongs to this state
	records    uint64 // live records in data and blobs
	writes     uint64 // records encrypted under the newest term
	sum        [32]byte
}

const digestSize = 1 + 4*8 + 32

// Which bucket a record is in; part of the sum.
const (
	inData  = 'd'
	inBlobs = 'b'
)

// add adds a record to the sum.
func (d *digest) add(k *keyring, bucket byte, key, rec []byte) {
	h := k.hash(bucket, key, rec)
	var carry uint64
	for i := 24; i >= 0; i -= 8 {
		var s uint64
		s, carry = bits.Add64(binary.BigEndian.Uint64(d.sum[i:]), binary.BigEndian.Uint64(h[i:]), carry)
		binary.BigEndian.PutUint64(d.sum[i:], s)
	}
	d.records++
}

// remove removes a record from the sum.
func (d *digest) remove(k *keyring, bucket byte, key, rec []byte) {
	h := k.hash(bucket, key, rec)
	var borrow uint64
	for i := 24; i >= 0; i -= 8 {
		var s uint64
		s, borrow = bits.Sub64(binary.BigEndian.Uint64(d.sum[i:]), binary.BigEndian.Uint64(h[i:]), borrow)
		binary.BigEndian.PutUint64(d.sum[i:], s)
	}
	d.records--
}

// hash returns the term of one record in the sum. A record too short to have a
// nonce and a tag is damaged; it is hashed whole and will not match.
func (k *keyring) hash(bucket byte, key, rec []byte) [32]byte {
	nonce, tag := rec, []byte(nil)
	if len(rec) >= recordMin {
		nonce, tag = rec[headerSize:headerSize+nonceSize], rec[len(rec)-tagSize:]
	}
	var head [5]byte
	head[0] = bucket
	binary.BigEndian.PutUint32(head[1:], uint32(len(key)))
	m, _ := k.macs.Get().(hash.Hash)
	if m == nil {
		m = hmac.New(sha256.New, k.DigestKey)
	}
	defer k.macs.Put(m)
	m.Reset()
	m.Write(head[:])
	m.Write(key)
	m.Write(nonce)
	m.Write(tag)
	var h [32]byte
	m.Sum(h[:0])
	return h
}

func (d *digest) encode(k *keyring) ([]byte, error) {
	b := make([]byte, 1, digestSize)
	b[0] = 1
	for _, n := range []uint64{d.generation, d.keyring, d.records, d.writes} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return k.seal(kindValue, purposeDigest, "", append(b, d.sum[:]...))
}

func (k *keyring) decodeDigest(rec []byte) (d digest, err error) {
	_, b, err := k.open(rec, purposeDigest, "")
	if err != nil {
		return d, err
	}
	if len(b) != digestSize || b[0] != 1 {
		return d, corrupt("digest", "malformed")
	}
	b = b[1:]
	for _, n := range []*uint64{&d.generation, &d.keyring, &d.records, &d.writes} {
		*n, b = binary.BigEndian.Uint64(b), b[8:]
	}
	copy(d.sum[:], b)
	return d, nil
}
