package storage

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// image is the file of a store that is not being written, read without bbolt.
type image struct {
	metas
	pageSize int
	mapping  []byte
	data     []byte // the pages as of the last commit
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
	if im.metas, err = readMetas(im.mapping); err != nil {
		im.close()
		return nil, err
	}
	im.pageSize = int(im.meta.pageSize)
	im.data = im.mapping[:int(im.pages)*im.pageSize]
	return im, nil
}

func (im *image) close() { _ = unix.Munmap(im.mapping) } // fails only if this is not a mapping

// counts is what a walk counted.
type counts struct {
	records map[string]uint64 // by bucket
	free    uint64            // pages neither in use nor part of the free list
	list    error             // what is wrong with the free list; reading does not need it
}

// walk visits every page, in the order of the keys, and checks what bbolt takes
// on trust: that each page is in use once or free, that keys are in order and
// branches lead to them, and that elements fill their pages. It reads the file,
// except the inside of large values. fn is called with every record; key and
// value are valid until it returns.
func (im *image) walk(fn func(bucket string, key, value []byte)) (counts, error) {
	w := walker{
		tree: tree{data: im.data, pageSize: im.pageSize}, used: newPageSet(im.pages),
		counts: counts{records: make(map[string]uint64)},
	}
	w.used.add(run{0, 2})
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
	for _, name := range [][]byte{bucketMeta, bucketSlots, bucketData, bucketBlobs} {
		if im.trees.found[string(name)] == nil {
			return w.counts, corrupt("file", "no bucket %q (or this is no sealkeep store)", name)
		}
	}
	for _, r := range w.used.missing(im.pages) {
		w.free += r.n
	}
	var l freeList
	if l, w.list = readList(im.data, &im.meta); w.list == nil {
		w.list = l.claim(w.used)
	}
	if w.list == nil {
		w.free -= l.own.n
	}
	return w.counts, nil
}

type walker struct {
	tree
	counts
	used pageSet
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
	if t.root, err = t.rootOf(v); err != nil {
		return t, err
	}
	if root := binary.NativeEndian.Uint64(v); root != 0 {
		return t, w.page(root, 0, nil, nil, 0, each)
	}
	return t, w.elements(t.root, 0, nil, nil, 0, each)
}

// page walks a page whose first key is low and whose keys are less than high.
// A nil is no bound.
func (w *walker) page(id uint64, depth int, low, high []byte, flags uint32, fn func(key, value []byte) error) error {
	p, err := w.tree.page(id)
	if err != nil {
		return err
	}
	if !w.used.add(run{id, uint64(len(p.b) / w.pageSize)}) {
		return corrupt("pages", "page %d is in use twice", id)
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
	if err := p.check(flags); err != nil {
		return err
	}
	for i := range p.n {
		key, value, _, child, err := p.at(i)
		switch {
		case err != nil:
			return err
		case high != nil && bytes.Compare(key, high) >= 0:
			return corrupt("pages", "a branch that leads past its keys")
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
	}
	return nil
}
