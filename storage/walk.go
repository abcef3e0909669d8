package storage

import (
	"encoding/binary"
	"hash/maphash"
	"io"
	"math/bits"
	"slices"
)

// pageSet has a bit for each page.
type pageSet []uint64

func newPageSet(pages uint64) pageSet { return make(pageSet, pages/64+1) }

func (s pageSet) has(id uint64) bool { return s[id/64]&(1<<(id%64)) != 0 }

// add adds pages, and reports whether none of them was in the set.
func (s pageSet) add(r run) bool {
	for id := r.start; id < r.end(); id++ {
		if s.has(id) {
			return false
		}
		s[id/64] |= 1 << (id % 64)
	}
	return true
}

// after returns the first page from id on that is in the set, or n.
func (s pageSet) after(id, n uint64) uint64 {
	for id < n {
		if rest := s[id/64] >> (id % 64); rest != 0 {
			return min(id+uint64(bits.TrailingZeros64(rest)), n)
		}
		id = (id/64 + 1) * 64
	}
	return n
}

// missing returns the pages below n that are not in the set.
func (s pageSet) missing(n uint64) (runs []run) {
	for id := uint64(0); id < n; id++ {
		switch last := len(runs) - 1; {
		case s.has(id):
		case last >= 0 && runs[last].end() == id:
			runs[last].n++
		default:
			runs = append(runs, run{id, 1})
		}
	}
	return runs
}

// walk finds the pages that a state of the file uses, level by level.
type walk struct {
	*meta
	f io.ReaderAt

	used, level, next pageSet
	firsts            []uint32 // by page: hash of its first key, 0 if not known

	// The pages read last. They are read and not mapped, because a fault per page
	// costs more than a copy, and mapped pages count as memory of the process.
	b     []byte
	first uint64 // where b begins
}

const (
	windowPages = 128 // read at once
	windowGap   = 8   // unneeded pages read rather than starting another window
)

// reachable returns the pages that a state uses for its trees. ErrCorrupt: a
// page is not what the branch above it says, or is in use twice. stop is called
// now and then; its error ends the walk.
func reachable(f io.ReaderAt, m *meta, stop func() error) (pageSet, error) {
	w := walk{meta: m, f: f, used: newPageSet(m.pages), level: newPageSet(m.pages), next: newPageSet(m.pages), firsts: make([]uint32, m.pages)}
	w.used.add(run{0, 2})
	if err := w.lead(m.root, 0); err != nil {
		return w.used, err
	}
	for depth := 0; ; depth++ {
		if depth == 2*maxTreeDepth { // a bucket's tree below the tree of buckets
			return w.used, corrupt("pages", "more than %d levels", depth)
		}
		w.level, w.next = w.next, w.level
		clear(w.next)
		any := false
		for id := w.level.after(0, m.pages); id < m.pages; id = w.level.after(id+1, m.pages) {
			if id%1024 == 0 || !any {
				if err := stop(); err != nil {
					return w.used, err
				}
			}
			any = true
			if err := w.visit(id); err != nil {
				return w.used, err
			}
		}
		if !any {
			return w.used, nil
		}
	}
}

// lead notes a page for the next level.
func (w *walk) lead(id uint64, first uint32) error {
	if id < 2 || id >= w.pages {
		return corrupt("pages", "page %d does not exist", id)
	}
	if w.used.has(id) || !w.next.add(run{id, 1}) {
		return corrupt("pages", "page %d is in use twice", id)
	}
	w.firsts[id] = first
	return nil
}

func hashKey(key []byte) uint32 { return uint32(maphash.Bytes(listSeed, key)) | 1 }

// visit claims a page and notes the pages to which it leads.
func (w *walk) visit(id uint64) error {
	p, n, err := w.page(id)
	if err != nil {
		return err
	}
	if !w.used.add(run{id, n}) {
		return corrupt("pages", "page %d is in use twice", id)
	}
	if p.n == 0 && w.firsts[id] != 0 {
		return corrupt("pages", "page %d has no keys", id)
	}
	for i := range p.n {
		if i == 0 || !p.leaf {
			key, err := p.key(i)
			if err != nil {
				return err
			}
			hash := hashKey(key)
			if i == 0 && w.firsts[id] != 0 && w.firsts[id] != hash {
				return corrupt("pages", "a branch that leads past its keys, to page %d", id)
			}
			if !p.leaf {
				if err := w.lead(p.child(i), hash); err != nil {
					return err
				}
				continue
			}
		}
		switch p.kind(i) {
		case 0:
		case flagBucket:
			_, value, _, _, err := p.at(i)
			if err == nil && len(value) < bucketHeader {
				err = corrupt("pages", "a bucket of %d bytes", len(value))
			}
			if err != nil {
				return err
			}
			if root := binary.NativeEndian.Uint64(value); root != 0 { // otherwise the root is inside the element
				if err := w.lead(root, 0); err != nil {
					return err
				}
			}
		default:
			return corrupt("pages", "an element with flags %#x", p.kind(i))
		}
	}
	return nil
}

// page returns a page of the level, and how many pages it takes. It reads only
// the part of an overflowing leaf that visit needs.
func (w *walk) page(id uint64) (p page, n uint64, err error) {
	if have := uint64(len(w.b)) / w.pageSize; id < w.first || id-w.first >= have {
		last := id
		for next := id; next < min(id+windowPages, last+windowGap+1, w.pages); {
			last = next
			next = w.level.after(next+1, w.pages)
		}
		if w.b, err = w.read(id, last-id+1, w.b); err != nil {
			w.b = nil
			return p, 0, err
		}
		w.first = id
	}
	b := w.b[(id-w.first)*w.pageSize:]
	if n, err = pageCount(b, id, w.pages); err != nil {
		return p, 0, err
	}
	size := int(n * w.pageSize)
	if n == 1 {
		b = b[:size]
	} else if need := leadBytes(b[:w.pageSize], size); need <= int(w.pageSize) {
		b = b[:w.pageSize]
	} else if b, err = w.read(id, n, nil); err != nil {
		return p, 0, err
	}
	p, err = parsePage(b, size, int(w.pageSize))
	return p, n, err
}

func (w *walk) read(id, n uint64, b []byte) ([]byte, error) {
	size := int(n * w.pageSize)
	b = slices.Grow(b[:0], size)[:size]
	if _, err := w.f.ReadAt(b, int64(id*w.pageSize)); err != nil {
		return nil, corrupt("file", "reading page %d: %v", id, err)
	}
	return b, nil
}

// leadBytes returns how much of a page of size bytes, whose beginning is b, is
// needed to know where it leads. A leaf without buckets needs just the elements and
// the first key.
func leadBytes(b []byte, size int) int {
	p := page{b: b, n: int(binary.NativeEndian.Uint16(b[10:])), leaf: binary.NativeEndian.Uint16(b[8:]) == flagLeaf}
	if !p.leaf || p.n == 0 || pageHeader+p.n*element > len(b) {
		return size
	}
	for i := range p.n {
		if p.kind(i) != 0 {
			return size
		}
	}
	start, ksize, _ := p.bounds(0)
	return start + ksize
}
