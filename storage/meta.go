package storage

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/bits"
	"os"
	"slices"
)

// A meta page is, after the page's header,
//
//	magic(4) | version(4) | page size(4) | flags(4) | root page(8) | sequence(8) |
//	free list(8) | pages(8) | transaction(8) | FNV-64a of all that(8)
//
// There are two, pages 0 and 1. Transaction n writes page n modulo 2, so the
// newer one counts and the other one is the commit before; only in a copy made
// by bbolt do both hold the same state, in either page. A meta page lies within
// one sector, which disks write whole: an invalid one is damaged, not half
// written.
const (
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSize    = 64
	flagMeta    = 4
	noFreeList  = math.MaxUint64 // it has to be found
	minPageSize = 1 << 10
	maxPageSize = 1 << 16
)

type meta struct {
	pageSize, root, free, pages, txid uint64
	raw                               [metaSize]byte
}

func parseMeta(b []byte) (m meta, ok bool) {
	if len(b) < pageHeader+metaSize {
		return m, false
	}
	m.raw = [metaSize]byte(b[pageHeader:])
	word := func(at int) uint64 { return uint64(binary.NativeEndian.Uint32(m.raw[at:])) }
	long := func(at int) uint64 { return binary.NativeEndian.Uint64(m.raw[at:]) }
	m.pageSize, m.root, m.free, m.pages, m.txid = word(8), long(16), long(32), long(40), long(48)
	ok = word(0) == metaMagic && word(4) == metaVersion && long(56) == m.sum() &&
		m.pageSize >= minPageSize && m.pageSize <= maxPageSize && m.pageSize&(m.pageSize-1) == 0
	return m, ok
}

func (m *meta) sum() uint64 {
	h := fnv.New64a()
	h.Write(m.raw[:metaSize-8])
	return h.Sum64()
}

// next returns the meta page that follows m, with a new free list and more pages.
func (m meta) next(free, pages uint64) meta {
	put := binary.NativeEndian.PutUint64
	m.free, m.pages, m.txid = free, pages, m.txid+1
	put(m.raw[32:], m.free)
	put(m.raw[40:], m.pages)
	put(m.raw[48:], m.txid)
	put(m.raw[56:], m.sum())
	return m
}

// write writes the meta page, durably.
func (m meta) write(f *os.File, page uint64) error {
	var b [pageHeader + metaSize]byte
	binary.NativeEndian.PutUint64(b[:], page)
	binary.NativeEndian.PutUint16(b[8:], flagMeta)
	copy(b[pageHeader:], m.raw[:])
	if _, err := f.WriteAt(b[:], int64(page*m.pageSize)); err != nil {
		return err
	}
	return f.Sync()
}

// metas is the content of the two meta pages of a file.
type metas struct {
	meta   // the one that counts
	page   uint64
	mended bool  // it had a few damaged bits, which its checksum restored; the file still has them
	damage error // one of the two is damaged, or was before mending; nil if neither is
}

// readMetas finds the meta page that counts in the bytes of a file, and checks
// each number in it that is used before anything else is known about the file.
func readMetas(data []byte) (ms metas, err error) {
	both, ok := [2]meta{}, [2]bool{}
	both[0], ok[0] = parseMeta(data)
	// The second one follows the first page, whose size is only in the meta pages.
	for size := uint64(minPageSize); size <= maxPageSize && size < uint64(len(data)) && !ok[1]; size *= 2 {
		if !ok[0] || size == both[0].pageSize {
			both[1], ok[1] = parseMeta(data[size:])
			ok[1] = ok[1] && both[1].pageSize == size
		}
	}
	n := 0
	switch {
	case !ok[0] && !ok[1]:
		return ms, corrupt("file", "not a store, or both meta pages are damaged")
	case !ok[0], ok[1] && both[1].txid > both[0].txid:
		n = 1
	}
	ms.meta = both[n]
	if other := 1 - n; !ok[other] {
		ms.damage = corrupt("file", "meta page %d is damaged: if it was the newer one, the last commit is lost", other)
		if m, found := ms.meta.mend(data[other*int(ms.pageSize):]); found && m.txid > ms.txid {
			n, ms.meta, ms.mended = other, m, true
			ms.damage = corrupt("file", "the newer meta page, %d, was damaged in a few bits, which its checksum gives back", other)
		} else if found {
			ms.damage = corrupt("file", "the older meta page, %d, is damaged; the next commit replaces it", other)
		}
	}
	ms.page = uint64(n)
	return ms, ms.check(uint64(len(data)))
}

// check refuses impossible numbers.
func (m *meta) check(size uint64) error {
	switch most := size / m.pageSize; {
	case m.pages > most || m.pages < 4:
		return corrupt("file", "it has %d of its %d pages: it was cut short", most, m.pages)
	case m.root < 2 || m.root >= m.pages || m.free != noFreeList && (m.free < 2 || m.free >= m.pages):
		return corrupt("file", "the meta page names pages that do not exist")
	case m.txid >= math.MaxInt64:
		return corrupt("file", "the meta page has the number of a transaction that cannot be, %d", m.txid)
	}
	return nil
}

// mend reconstructs a damaged meta page with the help of the other one: most of it
// is the same in both, the transaction is the one before or after, and in the rest
// it flips up to three bits until the checksum is right. The chance that a wrong
// page passes is one in ten to the twelve.
func (m meta) mend(b []byte) (was meta, ok bool) {
	if len(b) < pageHeader+metaSize {
		return was, false
	}
	was.raw = [metaSize]byte(b[pageHeader:])
	copy(was.raw[:16], m.raw[:16])
	copy(was.raw[24:32], m.raw[24:32])
	var unknown []int // bits
	for bit := range 8 * metaSize {
		if at := bit / 8; at >= 16 && at < 24 || at >= 32 && at < 48 {
			unknown = append(unknown, bit)
		}
	}
	for _, txid := range []uint64{m.txid + 1, m.txid - 1} {
		binary.NativeEndian.PutUint64(was.raw[48:], txid)
		if was.flip(unknown, 3) {
			return parseMeta(slices.Concat(b[:pageHeader], was.raw[:]))
		}
	}
	return was, false
}

// flip flips at most n of the unknown bits and those of the checksum, so that the
// checksum is right.
func (m *meta) flip(unknown []int, n int) bool {
	sum := m.sum()
	if bits.OnesCount64(sum^binary.NativeEndian.Uint64(m.raw[56:])) <= n {
		binary.NativeEndian.PutUint64(m.raw[56:], sum)
		return true
	}
	for i := 0; i < len(unknown) && n > 0; i++ {
		bit := unknown[i]
		m.raw[bit/8] ^= 1 << (bit % 8)
		if m.flip(unknown[i+1:], n-1) {
			return true
		}
		m.raw[bit/8] ^= 1 << (bit % 8)
	}
	return false
}

// metaOf finds the meta page of a transaction, which the second commit after it
// overwrites. ErrCorrupt: it is not there.
func metaOf(data []byte, pageSize int, txid uint64) (meta, error) {
	for page := range 2 {
		if m, ok := parseMeta(data[page*pageSize:]); ok && m.txid == txid {
			return m, nil
		}
	}
	return meta{}, corrupt("file", "no meta page of transaction %d", txid)
}
