package storage

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// A meta page is, after the page's header,
//
//	magic(4) | version(4) | page size(4) | flags(4) | root page(8) | sequence(8) |
//	free list(8) | pages(8) | transaction(8) | FNV-64a of all that(8)
//
// There are two, pages 0 and 1; the one of the later transaction counts.
const (
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSize    = 64
	noFreeList  = math.MaxUint64 // it has to be found
)

type meta struct {
	pageSize, root, free, pages, txid uint64
}

func parseMeta(b []byte) (m meta, ok bool) {
	if len(b) < pageHeader+metaSize {
		return m, false
	}
	b = b[pageHeader : pageHeader+metaSize]
	word, long := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	if word(b) != metaMagic || word(b[4:]) != metaVersion || long(b[metaSize-8:]) != sum.Sum64() {
		return m, false
	}
	m = meta{pageSize: uint64(word(b[8:])), root: long(b[16:]), free: long(b[32:]), pages: long(b[40:]), txid: long(b[48:])}
	return m, m.pageSize >= 1<<10 && m.pageSize <= 1<<16 && m.pageSize&(m.pageSize-1) == 0
}

// image is the file of a store that nobody writes, read without bbolt.
type image struct {
	meta
	pageSize int
	mapping  []byte
	data     []byte // the pages that the last commit knows
	trees    trees  // filled by walk
}

// openImage maps a file.
func openImage(f *os.File) (*image, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch size := fi.Size(); {
	case !fi.Mode().IsRegular():
		return nil, corrupt("file", "not a regular file")
	case size == 0:
		return nil, corrupt("file", "is empty")
	case size > math.MaxInt:
		return nil, corrupt("file", "%d bytes do not fit in the address space", size)
	}
	im := &image{}
	if im.mapping, err = unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	if err := im.readMeta(); err != nil {
		im.close()
		return nil, err
	}
	return im, nil
}

func (im *image) close() { _ = unix.Munmap(im.mapping) } // fails only for what is no mapping

// readMeta finds the meta page that counts. The second one stands after the
// first page, whose size only they know.
func (im *image) readMeta() error {
	found := false
	for at := 0; at <= 1<<16 && at < len(im.mapping); at = max(1<<10, 2*at) {
		m, ok := parseMeta(im.mapping[at:])
		if ok && (at == 0 || at == int(m.pageSize)) && (!found || m.txid > im.meta.txid) {
			im.meta, found = m, true
		}
	}
	if !found {
		return corrupt("file", "not a store, or both meta pages are damaged")
	}
	im.pageSize = int(im.meta.pageSize)
	if most := uint64(len(im.mapping)) / im.meta.pageSize; im.pages > most || im.pages < 4 {
		return corrupt("file", "it has %d of its %d pages: it was cut short", most, im.pages)
	}
	im.data = im.mapping[:int(im.pages)*im.pageSize]
	return nil
}

// counts is what a walk has seen.
type counts struct {
	records map[string]uint64 // by bucket
	free    uint64            // pages
}

// walk visits every page, in the order of the keys, and checks what bbolt
// believes unseen: that each page is in use once, or free, that keys are in
// order and branches lead to them, and that no element leaves its page. It costs
// a reading of the file, without the inside of large values. fn is given all
// records; key and value are valid until it returns.
func (im *image) walk(fn func(bucket string, key, value []byte)) (counts, error) {
	w := walker{
		tree: tree{data: im.data, pageSize: im.pageSize}, seen: make([]uint64, im.pages/64+1),
		counts: counts{records: make(map[string]uint64)},
	}
	for id := range uint64(2) {
		_ = w.mark(id, 1)
	}
	if err := w.freeList(im.free); err != nil {
		return w.counts, err
	}
	im.trees.found = make(map[string]*tree)
	err := w.page(im.root, 0, nil, nil, flagBucket, func(name, v []byte) error {
		t, err := w.bucket(string(name), v, fn)
		if err == nil {
			im.trees.found[string(name)] = &t
		}
		return err
	})
	if err != nil {
		return w.counts, err
	}
	for id := uint64(0); im.free != noFreeList && id < im.pages; id++ {
		if w.seen[id/64]&(1<<(id%64)) == 0 {
			return w.counts, corrupt("pages", "page %d is neither in use nor free", id)
		}
	}
	for _, name := range [][]byte{bucketMeta, bucketSlots, bucketData, bucketBlobs} {
		if im.trees.found[string(name)] == nil {
			return w.counts, corrupt("file", "no bucket %q (or this is no sealkeep store)", name)
		}
	}
	return w.counts, nil
}

type walker struct {
	tree
	counts
	seen []uint64 // a bit for each page
}

// mark notes that pages have an owner.
func (w *walker) mark(id, n uint64) error {
	for ; n > 0; id, n = id+1, n-1 {
		if w.seen[id/64]&(1<<(id%64)) != 0 {
			return corrupt("pages", "page %d is in use twice, or free and in use", id)
		}
		w.seen[id/64] |= 1 << (id % 64)
	}
	return nil
}

// freeList reads the numbers of the free pages. When they are too many for the
// page's count, that says 65535 and the first number is theirs.
func (w *walker) freeList(id uint64) error {
	if id == noFreeList {
		return nil
	}
	b, err := w.bytes(id)
	if err != nil {
		return err
	}
	if flags := binary.NativeEndian.Uint16(b[8:]); flags != flagFreeList {
		return corrupt("pages", "page %d with flags %#x in the place of the free list", id, flags)
	}
	if err := w.mark(id, uint64(len(b)/w.pageSize)); err != nil {
		return err
	}
	n, list := uint64(binary.NativeEndian.Uint16(b[10:])), b[pageHeader:]
	if n == math.MaxUint16 {
		n, list = binary.NativeEndian.Uint64(list), list[8:]
	}
	if n > uint64(len(list)/8) {
		return corrupt("pages", "a free list of %d pages in %d bytes", n, len(b))
	}
	for i := range n {
		free := binary.NativeEndian.Uint64(list[8*i:])
		if free >= uint64(len(w.data)/w.pageSize) {
			return corrupt("pages", "page %d is free and does not exist", free)
		}
		if err := w.mark(free, 1); err != nil {
			return err
		}
	}
	w.free = n
	return nil
}

// bucket walks the tree of a bucket, which may be inside its element.
func (w *walker) bucket(name string, v []byte, fn func(string, []byte, []byte)) (t tree, err error) {
	if len(v) < bucketHeader {
		return t, corrupt("pages", "bucket %q of %d bytes", name, len(v))
	}
	each := func(key, value []byte) error {
		w.records[name]++
		fn(name, key, value)
		return nil
	}
	t = tree{data: w.data, pageSize: w.pageSize}
	root := binary.NativeEndian.Uint64(v)
	if root != 0 {
		if err := w.page(root, 0, nil, nil, 0, each); err != nil {
			return t, err
		}
		t.root, err = t.page(root)
		return t, err
	}
	if t.root, err = parsePage(v[bucketHeader:]); err == nil && !t.root.leaf {
		err = corrupt("pages", "bucket %q has a branch inside its element", name)
	}
	if err != nil {
		return t, err
	}
	return t, w.elements(t.root, 0, nil, nil, 0, each)
}

// page walks a page whose first key is low, and whose keys are less than high:
// nil is no bound.
func (w *walker) page(id uint64, depth int, low, high []byte, flags uint32, fn func(key, value []byte) error) error {
	b, err := w.bytes(id)
	if err != nil {
		return err
	}
	if err := w.mark(id, uint64(len(b)/w.pageSize)); err != nil {
		return err
	}
	p, err := parsePage(b)
	if err != nil {
		return err
	}
	return w.elements(p, depth, low, high, flags, fn)
}

func (w *walker) elements(p page, depth int, low, high []byte, flags uint32, fn func(key, value []byte) error) error {
	if depth == maxTreeDepth {
		return corrupt("pages", "more than %d levels", maxTreeDepth)
	}
	if low != nil {
		if err := p.startsWith(low); err != nil {
			return err
		}
	}
	var last []byte
	for i := range p.n {
		key, value, kind, child, err := p.at(i)
		switch {
		case err != nil:
			return err
		case i > 0 && bytes.Compare(key, last) <= 0:
			return corrupt("pages", "keys are out of order")
		case high != nil && bytes.Compare(key, high) >= 0:
			return corrupt("pages", "a branch that leads past its keys")
		case p.leaf && kind != flags:
			return corrupt("pages", "an element with flags %#x", kind)
		case p.leaf:
			err = fn(key, value)
		default:
			to := high
			if i+1 < p.n {
				if to, _, _, _, err = p.at(i + 1); err != nil {
					return err
				}
			}
			err = w.page(child, depth+1, key, to, flags, fn)
		}
		if err != nil {
			return err
		}
		last = key
	}
	return nil
}
