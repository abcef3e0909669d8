package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// bbolt trusts its pages: one that points to itself makes it recurse until the
// stack overflows, which ends the process and cannot be caught. So everything is
// read here, from a mapping of our own, with every length and number checked;
// and before bbolt may write a key, the same path down the tree is checked.
//
// bbolt's format, in the byte order of the machine: a page is
//
//	id(8) | flags(2) | count(2) | overflow(4) | elements
//
// and an element, with pos counted from its own first byte,
//
//	branch  pos(4) | key size(4) | page(8)
//	leaf    flags(4) | pos(4) | key size(4) | value size(4)
//
// A bucket is a leaf element with flag 1; its value is root page(8) |
// sequence(8), and when the root is 0 the page itself follows.
const (
	pageHeader   = 16
	element      = 16
	bucketHeader = 16
	flagBranch   = 1
	flagLeaf     = 2
	flagFreeList = 16
	flagBucket   = 1
	maxTreeDepth = 32 // a tree with this many levels would not fit on any disk
)

// trees holds the trees of one state of the file, each found when first needed.
type trees struct {
	h     *handle
	btx   *bolt.Tx
	found map[string]*tree
	whole map[uint64]struct{} // pages whose every element was checked; nil: not required
}

// of finds the tree of a bucket. Even in a write transaction it is the tree of
// the committed state.
func (s *trees) of(bucket []byte) (*tree, error) {
	if t := s.found[string(bucket)]; t != nil {
		return t, nil
	}
	t, err := s.h.tree(s.btx, bucket, s.whole)
	if err != nil {
		return nil, err
	}
	if s.found == nil {
		s.found = make(map[string]*tree, 2)
	}
	s.found[string(bucket)] = &t
	return &t, nil
}

// get returns the value of a key in a bucket, or nil if there is none.
func (s *trees) get(bucket, key []byte) ([]byte, error) {
	t, err := s.of(bucket)
	if err != nil {
		return nil, err
	}
	return t.get(key)
}

// handle is an open file: bbolt's, which writes, and the mapping, which is read.
type handle struct {
	*bolt.DB
	path     string
	pageSize int
	file     *os.File // bbolt's own
	stuck    bool     // bbolt panicked in a transaction and still holds its locks
	damage   error    // damage to the meta pages found when the file was opened

	gone   atomic.Bool // the handle is about to be closed: readers give up
	listed uint64      // hash of the free list, before bbolt read it

	proven  atomic.Bool // the free list is right, and so is bbolt's copy of it
	parked  []run       // free pages that are not in the list; the committer's, once proven
	left    []run       // pages of earlier lists, which a backup may still copy
	proving sync.Mutex
	proof   *proof // under way

	mapping atomic.Pointer[[]byte]
	growing sync.Mutex
	old     [][]byte // mappings that readers may still use
}

// mapFile maps size bytes of the file, or all if it is larger.
func (h *handle) mapFile(size int64) error {
	f, err := os.Open(h.path)
	if err != nil {
		return fmt.Errorf("mapping store: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("mapping store: %w", err)
	}
	size = max(size, fi.Size())
	if size > math.MaxInt {
		return fmt.Errorf("mapping store: %d bytes do not fit in the address space", size)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping %d bytes of the store: %w", size, err)
	}
	if was := h.mapping.Swap(&m); was != nil {
		h.old = append(h.old, *was)
	}
	return nil
}

// upTo returns the first n bytes of the file, mapping more of it if it has
// outgrown the mapping.
func (h *handle) upTo(n int) ([]byte, error) {
	if m := *h.mapping.Load(); n <= len(m) {
		return m[:n], nil
	}
	h.growing.Lock()
	defer h.growing.Unlock()
	if n > len(*h.mapping.Load()) {
		if err := h.mapFile(2 * int64(n)); err != nil {
			return nil, err
		}
	}
	return (*h.mapping.Load())[:n], nil
}

// rollback ends a write transaction, whatever state a panic left it in.
func (h *handle) rollback(btx *bolt.Tx) {
	defer func() {
		if recover() != nil {
			h.stuck = true
		}
	}()
	_ = btx.Rollback() // the error only says that it has already ended
}

// leave closes a file that bbolt can no longer close. bbolt's mapping keeps the
// file open, and with it the lock, so leave unlocks it explicitly.
func leave(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}

// close closes bbolt and the mapping. No reader may be left. If bbolt is stuck, it
// closes only the file, which releases the lock; bbolt's mapping stays until the
// process ends.
func (h *handle) close() error {
	h.growing.Lock()
	defer h.growing.Unlock()
	var errs []error
	if m := h.mapping.Swap(nil); m != nil {
		for _, m := range append(h.old, *m) {
			errs = append(errs, unix.Munmap(m))
		}
	}
	if h.stuck || h.DB == nil {
		return errors.Join(append(errs, leave(h.file))...)
	}
	return errors.Join(append(errs, h.DB.Close())...)
}

// tree is one B+tree of one state of the file.
type tree struct {
	data     []byte // all pages in use
	pageSize int
	root     page
	flags    uint32              // of every element: buckets in the top tree, values elsewhere
	whole    map[uint64]struct{} // as in trees
}

// page is a page with a checked header. Its elements are checked one by one, when
// used.
type page struct {
	b    []byte // with its overflow
	leaf bool
	n    int
}

// tree finds the tree of a bucket.
func (h *handle) tree(btx *bolt.Tx, bucket []byte, whole map[uint64]struct{}) (tree, error) {
	data, err := h.upTo(int(btx.Size()))
	if err != nil {
		return tree{}, err
	}
	top := tree{data: data, pageSize: h.pageSize, flags: flagBucket, whole: whole}
	if top.root, err = top.page(uint64(btx.Cursor().Bucket().Root())); err != nil {
		return tree{}, err
	}
	c := cursor{tree: &top}
	k, v := c.Seek(bucket)
	if c.err != nil {
		return tree{}, c.err
	}
	if !bytes.Equal(k, bucket) || len(v) < bucketHeader {
		return tree{}, corrupt("pages", "no bucket %q", bucket)
	}
	t := tree{data: data, pageSize: h.pageSize, whole: whole}
	t.root, err = t.rootOf(v)
	return t, err
}

// rootOf returns the root page of a bucket, which may be inside its element.
func (t *tree) rootOf(bucket []byte) (page, error) {
	if root := binary.NativeEndian.Uint64(bucket); root != 0 {
		return t.page(root)
	}
	p, err := parsePage(bucket[bucketHeader:], len(bucket)-bucketHeader, 1)
	if err == nil && !p.leaf {
		err = corrupt("pages", "a bucket that has a branch inside its element")
	}
	if err == nil && t.whole != nil {
		err = p.check(t.flags)
	}
	return p, err
}

func (t *tree) page(id uint64) (page, error) {
	b, err := t.bytes(id)
	if err != nil {
		return page{}, err
	}
	p, err := parsePage(b, len(b), t.pageSize)
	if err == nil && t.whole != nil {
		if _, ok := t.whole[id]; !ok {
			if err = p.check(t.flags); err == nil {
				t.whole[id] = struct{}{}
			}
		}
	}
	return p, err
}

// child returns the page to which a branch leads. The branch's key must be the
// first key of the page: bbolt looks for it when it rewrites the page and, if it
// does not find it, leaves the old page in the branch beside the new one.
func (t *tree) child(key []byte, id uint64) (page, error) {
	p, err := t.page(id)
	if err != nil {
		return p, err
	}
	return p, p.startsWith(key)
}

// startsWith returns an error unless key is the first key of the page.
func (p page) startsWith(key []byte) error {
	if p.n == 0 {
		return corrupt("pages", "a page without keys")
	}
	first, _, _, _, err := p.at(0)
	if err == nil && !bytes.Equal(first, key) {
		err = corrupt("pages", "a branch that leads past its keys")
	}
	return err
}

// bytes returns the bytes of a page with its overflow pages.
func (t *tree) bytes(id uint64) ([]byte, error) {
	pages := uint64(len(t.data) / t.pageSize)
	if id < 2 || id >= pages {
		return nil, corrupt("pages", "page %d does not exist", id)
	}
	b := t.data[int(id)*t.pageSize:]
	n, err := pageCount(b, id, pages)
	if err != nil {
		return nil, err
	}
	return b[:int(n)*t.pageSize], nil
}

// pageCount reads from a page's header how many pages it takes. It checks that the
// page has the number id and fits in a file of that many pages.
func pageCount(header []byte, id, pages uint64) (n uint64, err error) {
	if got := binary.NativeEndian.Uint64(header); got != id {
		return 0, corrupt("pages", "page %d says that it is page %d", id, got)
	}
	if n = uint64(binary.NativeEndian.Uint32(header[12:])) + 1; n > pages-id {
		return 0, corrupt("pages", "page %d is longer than the file", id)
	}
	return n, nil
}

// parsePage checks the header of a page and where its elements begin and end.
// bbolt writes keys and values directly behind the elements, and takes exactly the
// bytes needed, rounded up to unit: whole pages or, inside a bucket's element,
// single bytes. So a wrong count or overflow is found here. b holds the first of
// the page's size bytes, including all elements.
func parsePage(b []byte, size, unit int) (page, error) {
	if len(b) < pageHeader {
		return page{}, corrupt("pages", "a page of %d bytes", len(b))
	}
	p := page{b: b, n: int(binary.NativeEndian.Uint16(b[10:]))}
	switch flags := binary.NativeEndian.Uint16(b[8:]); flags {
	case flagLeaf:
		p.leaf = true
	case flagBranch:
		if p.n == 0 {
			return p, corrupt("pages", "a branch page without branches")
		}
	default:
		return p, corrupt("pages", "a page with flags %#x in the place of a branch or leaf", flags)
	}
	start, end := pageHeader+p.n*element, pageHeader
	if start > len(b) {
		return p, corrupt("pages", "a page with %d elements in %d bytes", p.n, len(b))
	}
	if p.n > 0 {
		first, _, _ := p.bounds(0)
		from, ksize, vsize := p.bounds(p.n - 1)
		if end = from + ksize + vsize; first != start {
			return p, corrupt("pages", "a page with %d elements, the first of which begins at %d", p.n, first)
		}
	}
	if (end+unit-1)/unit*unit != size {
		return p, corrupt("pages", "a page of %d bytes that needs %d", size, end)
	}
	return p, nil
}

// check checks what bbolt trusts in a page that it changes and rewrites from all
// of its elements: that they follow one another, in the order of their keys, and
// are of one kind.
func (p page) check(flags uint32) error {
	end, last := pageHeader+p.n*element, []byte(nil)
	for i := range p.n {
		start, ksize, vsize := p.bounds(i)
		if start != end {
			return corrupt("pages", "an element that does not begin where the one before it ends")
		}
		if end = start + ksize + vsize; end > len(p.b) {
			return errElement
		}
		key := p.b[start : start+ksize]
		if i > 0 && bytes.Compare(key, last) <= 0 {
			return corrupt("pages", "keys are out of order")
		}
		if p.leaf && p.kind(i) != flags {
			return corrupt("pages", "an element with flags %#x", p.kind(i))
		}
		last = key
	}
	return nil
}

// bounds returns where the key of element i begins in the page, and the lengths
// of its key and value, as stored.
func (p page) bounds(i int) (start, ksize, vsize int) {
	off := pageHeader + i*element
	e := p.b[off : off+element]
	word := func(i int) int { return int(binary.NativeEndian.Uint32(e[4*i:])) }
	if p.leaf {
		return off + word(1), word(2), word(3)
	}
	return off + word(0), word(1), 0
}

// kind returns the flags of element i of a leaf.
func (p page) kind(i int) uint32 { return binary.NativeEndian.Uint32(p.b[pageHeader+i*element:]) }

// child returns the page to which element i of a branch leads.
func (p page) child(i int) uint64 {
	return binary.NativeEndian.Uint64(p.b[pageHeader+i*element+8:])
}

// key returns the key of element i.
func (p page) key(i int) ([]byte, error) {
	start, ksize, _ := p.bounds(i)
	if rest := len(p.b); start > rest || ksize > rest-start {
		return nil, errElement
	}
	return p.b[start : start+ksize : start+ksize], nil
}

var errElement = corrupt("pages", "an element that is not in its page")

// at returns element i of a page: its key, and its value or child.
func (p page) at(i int) (key, value []byte, flags uint32, child uint64, err error) {
	start, ksize, vsize := p.bounds(i)
	if rest := len(p.b); start > rest || ksize > rest-start || vsize > rest-start-ksize {
		return nil, nil, 0, 0, errElement
	}
	if p.leaf {
		flags = p.kind(i)
	} else {
		child = p.child(i)
	}
	b := p.b[start:]
	return b[:ksize:ksize], b[ksize : ksize+vsize : ksize+vsize], flags, child, nil
}

// cursor walks a tree in the order of its keys. Its methods work like those of
// bbolt's cursor; err is set if a page is damaged.
type cursor struct {
	tree *tree
	way  []step // from the root to a leaf
	last []byte // key returned last
	err  error
}

type step struct {
	page page
	i    int
}

// Seek goes to the first key that is not less than key.
func (c *cursor) Seek(key []byte) (k, v []byte) {
	c.way = append(c.way[:0], step{page: c.tree.root})
	for c.err == nil {
		s := &c.way[len(c.way)-1]
		less := func(i int) bool { // reports whether element i is less than key
			k, _, _, _, err := s.page.at(i)
			if err != nil {
				c.err = err
			}
			return bytes.Compare(k, key) < 0
		}
		// The first element that is not less than key.
		lo, hi := 0, s.page.n
		for lo < hi {
			if mid := (lo + hi) / 2; less(mid) {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		s.i = lo
		if c.err != nil {
			return nil, nil
		}
		if s.page.leaf {
			if k, v = c.element(); k != nil && bytes.Compare(k, key) < 0 {
				c.err = corrupt("pages", "keys are out of order")
				return nil, nil
			}
			return k, v
		}
		// A branch's key is the first key beneath it.
		if lo == s.page.n {
			s.i--
		} else if k, _, _, _, err := s.page.at(lo); err != nil {
			c.err = err
			return nil, nil
		} else if !bytes.Equal(k, key) && lo > 0 {
			s.i--
		}
		c.down()
	}
	return nil, nil
}

// Next moves to the next element.
func (c *cursor) Next() (k, v []byte) {
	if len(c.way) == 0 || c.err != nil {
		return nil, nil
	}
	c.way[len(c.way)-1].i++
	last := c.last
	if k, v = c.element(); k != nil && bytes.Compare(k, last) <= 0 {
		c.err = corrupt("pages", "keys are out of order, or pages in a circle")
		return nil, nil
	}
	return k, v
}

// element returns the cursor's element, or the next one if the cursor is past the
// end of its page. It returns nil at the end of the tree.
func (c *cursor) element() (k, v []byte) {
	for c.err == nil {
		s := &c.way[len(c.way)-1]
		switch {
		case s.i >= s.page.n:
			if c.way = c.way[:len(c.way)-1]; len(c.way) == 0 {
				return nil, nil
			}
			c.way[len(c.way)-1].i++
		case s.page.leaf:
			k, v, flags, _, err := s.page.at(s.i)
			if err == nil && flags != c.tree.flags {
				err = corrupt("pages", "an element with flags %#x", flags)
			}
			if err != nil {
				c.err = err
				return nil, nil
			}
			c.last = k
			return k, v
		default:
			c.down()
		}
	}
	return nil, nil
}

// down steps to the child of the cursor's branch.
func (c *cursor) down() {
	s := c.way[len(c.way)-1]
	key, _, _, child, err := s.page.at(s.i)
	if err == nil && len(c.way) == maxTreeDepth {
		err = corrupt("pages", "more than %d levels: pages in a circle", maxTreeDepth)
	}
	var p page
	if err == nil {
		p, err = c.tree.child(key, child)
	}
	if err != nil {
		c.err = err
		return
	}
	c.way = append(c.way, step{page: p})
}

// findable returns an error unless Seek would find the cursor's key: it must be
// less than the keys of the next branches beside its own. That it is not less than
// its own branches' keys follows from the order of the keys.
func (c *cursor) findable(key []byte) error {
	for _, s := range c.way[:len(c.way)-1] {
		if s.i+1 == s.page.n {
			continue
		}
		high, _, _, _, err := s.page.at(s.i + 1)
		if err != nil {
			return err
		}
		if bytes.Compare(key, high) >= 0 {
			return corrupt("pages", "a branch that leads past its keys")
		}
	}
	return nil
}

// get returns the value of a key, or nil if there is none.
func (t *tree) get(key []byte) ([]byte, error) {
	c := cursor{tree: t}
	k, v := c.Seek(key)
	if c.err != nil || !bytes.Equal(k, key) {
		return nil, c.err
	}
	return slices.Clip(v), nil
}

// deletable checks the pages that bbolt may touch when it deletes a key: those on
// the path to it, and their neighbours, with which it may merge them.
func (t *tree) deletable(key []byte) error {
	c := cursor{tree: t}
	c.Seek(key)
	for _, s := range c.way {
		for i := s.i - 1; i <= s.i+1 && !s.page.leaf && c.err == nil; i++ {
			if i < 0 || i >= s.page.n {
				continue
			}
			key, _, _, child, err := s.page.at(i)
			if err == nil {
				_, err = t.child(key, child)
			}
			c.err = err
		}
	}
	return c.err
}

// freeList checks the page with the list of free pages. Every commit frees the old
// copy, with its overflow pages.
func (s *trees) freeList() error {
	data, err := s.h.upTo(int(s.btx.Size()))
	if err != nil {
		return err
	}
	m, err := metaOf(data, s.h.pageSize, uint64(s.btx.ID())-1)
	if err == nil {
		_, _, err = checkList(data, &m)
	}
	return err
}
