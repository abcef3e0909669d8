package storage

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"os"
	"runtime/debug"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// bbolt writes wherever its list of free pages says that a page is free, so one
// flipped bit in that list silently destroys a live record. The list is therefore
// verified before the first write of a handle: one walk finds every page that the
// committed state uses, and the list must name none of them, and no page twice.
// Reads are served in the meantime. The walk goes level by level, in the order of
// the file, and looks at the elements of each page: it reads the file without its
// large values, in 0.3 s for 1,000,000 secrets of 1 KiB (2 GB) in the page cache.
//
// A wrong list is replaced by the pages that the walk found to be free. If a page
// cannot be walked, what lies beneath it is unknown, and no page is reused.
//
// Every commit writes the whole list, so it is kept short. If it has more than
// maxFree pages, the longest runs stay in it and the others are parked: they are
// neither in use nor in the list until the list runs low. Close puts them back;
// after a crash the walk finds them.
//
// A list of n pages is, after the header of its page, n numbers in ascending
// order, eight bytes each. If n does not fit in the header's count, the count is
// 65535 and n comes before the numbers.
const (
	maxFree  = 8192 // numbers in the list: 64 KiB to write in each commit
	keptFree = maxFree / 2
	fewFree  = keptFree / 2
)

// run is n pages beginning at start.
type run struct{ start, n uint64 }

func (r run) end() uint64 { return r.start + r.n }

// freeList is the list of one state of the file.
type freeList struct {
	ids []uint64 // ascending
	own run      // the pages that hold the list itself
	sum uint64   // hash of the stored numbers
}

// listSeed is the seed of this process's hashes.
var listSeed = maphash.MakeSeed()

// listPages returns the number of pages that bbolt takes for a list of n.
func listPages(n, pageSize uint64) uint64 {
	if n >= math.MaxUint16 {
		n++
	}
	return (pageHeader+8*n)/pageSize + 1
}

// checkList checks the header of the list and returns the bytes of its numbers.
// bbolt computes the size of a list before it takes the list's own pages out of
// it, so a list may have one of two sizes.
func checkList(data []byte, m *meta) (numbers []byte, own run, err error) {
	if m.free == noFreeList {
		return nil, own, corrupt("pages", "there is no free list")
	}
	t := tree{data: data, pageSize: int(m.pageSize)}
	b, err := t.bytes(m.free)
	if err != nil {
		return nil, own, err
	}
	if flags := binary.NativeEndian.Uint16(b[8:]); flags != flagFreeList {
		return nil, own, corrupt("pages", "page %d with flags %#x in the place of the free list", m.free, flags)
	}
	own = run{m.free, uint64(len(b)) / m.pageSize}
	n, list := uint64(binary.NativeEndian.Uint16(b[10:])), b[pageHeader:]
	if n == math.MaxUint16 {
		n, list = binary.NativeEndian.Uint64(list), list[8:]
	}
	if n > uint64(len(list)/8) || own.n != listPages(n, m.pageSize) && own.n != listPages(n+own.n, m.pageSize) {
		return nil, own, corrupt("pages", "a free list of %d pages in %d bytes", n, len(b))
	}
	return list[:8*n], own, nil
}

// readList reads the list of a state of the file.
func readList(data []byte, m *meta) (l freeList, err error) {
	numbers, own, err := checkList(data, m)
	if err != nil {
		return l, err
	}
	l = freeList{ids: make([]uint64, len(numbers)/8), own: own, sum: maphash.Bytes(listSeed, numbers)}
	last := uint64(1)
	for i := range l.ids {
		id := binary.NativeEndian.Uint64(numbers[8*i:])
		if id <= last || id >= m.pages {
			return l, corrupt("pages", "the free list has a page that does not exist, or one twice: %d after %d", id, last)
		}
		l.ids[i], last = id, id
	}
	return l, nil
}

// proof is one attempt at verifying the free list of a handle.
type proof struct {
	done chan struct{}
	err  error
}

// writable waits until the free list of the open handle is verified, and starts
// that if nobody has. It gives up when ctx ends, or with ErrUnavailable or
// ErrClosed when the handle is closed.
func (s *Store) writable(ctx context.Context) error {
	h := s.state.Load().h
	if h == nil || h.proven.Load() {
		return nil // the committer will say why it cannot write
	}
	h.proving.Lock()
	p := h.proof
	if p == nil {
		p = &proof{done: make(chan struct{})}
		h.proof = p
		go func() {
			p.err = s.prove(h)
			h.proving.Lock()
			defer h.proving.Unlock()
			h.proof = nil // the next writer tries again if needed
			close(p.done)
		}()
	}
	h.proving.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return ErrClosed
	}
}

// prove verifies the free list of a handle before anything is written with it, and
// replaces a wrong one.
func (s *Store) prove(h *handle) (err error) {
	t := &Tx{}
	s.enter(t, s.o.Now())
	defer s.leave(t)
	if s.state.Load().h != h {
		return ErrUnavailable
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catch(&err, "free list")
	m, data, err := h.newest()
	if err != nil {
		return err
	}
	free, parked, damage, err := s.freePages(h, data, &m)
	switch {
	case err != nil:
		return err
	case damage == nil:
		h.parked = parked
		h.proven.Store(true)
		return nil
	}
	err = s.direct(context.Background(), func(now *handle) error {
		if now != h {
			return ErrUnavailable
		}
		if err := h.relist(m, free); err != nil {
			return err
		}
		said := "the list of free pages was wrong; it was rebuilt before anything was written by it"
		if len(free) == 0 {
			said = "which pages are free cannot be proven, so none of them is used again; run sealkeep operator storage check"
		}
		s.o.Logger.Error(said, "path", s.path, "error", damage)
		h.parked = parked
		h.proven.Store(true)
		return nil
	})
	if errors.Is(err, ErrUnknownOutcome) { // it is not the caller's write that failed
		err = fmt.Errorf("%w: %v", ErrUnavailable, err)
	}
	return err
}

// freePages verifies the list of a state. If it is wrong, damage says why, and
// free is the list that replaces it. Parked pages are neither listed nor in use.
func (s *Store) freePages(h *handle, data []byte, m *meta) (free []uint64, parked []run, damage, err error) {
	used, err := reachable(h.file, m, func() error {
		switch {
		case s.isClosing():
			return ErrClosed
		case h.gone.Load():
			return ErrUnavailable
		}
		return nil
	})
	if errors.Is(err, ErrCorrupt) {
		return nil, nil, err, nil
	} else if err != nil {
		return nil, nil, nil, err
	}
	l, damage := readList(data, m)
	all := slices.Clone(used)
	switch {
	case damage != nil:
	case l.sum != h.listed:
		damage = corrupt("pages", "the free list is not the one that was read when the file was opened")
	default:
		damage = l.claim(all)
	}
	if damage == nil {
		return l.ids, all.missing(m.pages), nil, nil
	}
	free, parked = keep(used.missing(m.pages))
	return free, parked, damage, nil
}

// claim adds the listed pages, and the list's own, to the used ones. ErrCorrupt:
// one of them is already used.
func (l *freeList) claim(used pageSet) error {
	if !used.add(l.own) {
		return corrupt("pages", "the free list is in a page that is in use, %d", l.own.start)
	}
	for _, id := range l.ids {
		if !used.add(run{id, 1}) {
			return corrupt("pages", "page %d is in use and in the free list", id)
		}
	}
	return nil
}

// keep chooses the longest runs, keptFree pages in total, and parks the others.
func keep(runs []run) (free []uint64, parked []run) {
	slices.SortFunc(runs, func(a, b run) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.start, b.start)) })
	for i, r := range runs {
		n := min(r.n, uint64(keptFree-len(free)))
		for id := r.start; id < r.start+n; id++ {
			free = append(free, id)
		}
		if n < r.n {
			runs[i] = run{r.start + n, r.n - n}
			parked = runs[i:]
			break
		}
	}
	slices.Sort(free)
	return free, parked
}

// runsOf joins consecutive numbers into runs.
func runsOf(ids []uint64) (runs []run) {
	for _, id := range ids {
		if last := len(runs) - 1; last >= 0 && runs[last].end() == id {
			runs[last].n++
		} else {
			runs = append(runs, run{id, 1})
		}
	}
	return runs
}

// newest returns the newest meta page and its pages. The caller keeps others from
// committing in the meantime.
func (h *handle) newest() (m meta, data []byte, err error) {
	ms, err := h.metas()
	if err == nil && ms.mended {
		err = ms.damage
	}
	if err == nil {
		data, err = h.upTo(int(ms.pages * ms.pageSize))
	}
	return ms.meta, data, err
}

// writeList makes ids the free list, by a commit of its own after m: it appends
// the list to the file, and writes the meta page that names it once the list is
// durable. An empty list gets one extra page, since bbolt does not drop its old
// list when it reads an empty one.
func writeList(f *os.File, m meta, ids []uint64) error {
	n := listPages(max(uint64(len(ids)), 1), m.pageSize)
	pages := m.pages + n
	if len(ids) == 0 {
		ids = []uint64{pages}
		pages++
	}
	b := make([]byte, pageHeader, (pages-m.pages)*m.pageSize)
	binary.NativeEndian.PutUint64(b, m.pages)
	binary.NativeEndian.PutUint16(b[8:], flagFreeList)
	binary.NativeEndian.PutUint16(b[10:], uint16(min(len(ids), math.MaxUint16)))
	binary.NativeEndian.PutUint32(b[12:], uint32(n-1))
	if len(ids) >= math.MaxUint16 {
		b = binary.NativeEndian.AppendUint64(b, uint64(len(ids)))
	}
	for _, id := range ids {
		b = binary.NativeEndian.AppendUint64(b, id)
	}
	if _, err := f.WriteAt(b[:cap(b)], int64(m.pages*m.pageSize)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return m.next(m.pages, pages).write(f, (m.txid+1)%2)
}

var errReload = errors.New("read the free list again")

// relist makes ids the free list of the state m, in the file and in bbolt, which
// reads it again when it rolls back after a panic. Readers are not disturbed. ids
// includes all pages that bbolt has freed and not yet released. After
// ErrUnknownOutcome the handle must not be used again.
func (h *handle) relist(m meta, ids []uint64) (err error) {
	defer func() {
		switch r := recover(); r {
		case nil:
			return
		case errReload:
		default:
			h.stuck = true
			err = fmt.Errorf("%w: reading the free list again: %v", ErrUnknownOutcome, told(r))
			return
		}
		if st := h.Stats(); st.FreePageN+st.PendingPageN != max(len(ids), 1) {
			err = fmt.Errorf("%w: a free list of %d pages was read as one of %d", ErrUnknownOutcome, len(ids), st.FreePageN+st.PendingPageN)
		}
	}()
	return h.DB.Update(func(btx *bolt.Tx) error {
		if uint64(btx.ID()) != m.txid+1 {
			return fmt.Errorf("%w: transaction %d does not follow %d", ErrUnavailable, btx.ID(), m.txid)
		}
		if err := writeList(h.file, m, ids); err != nil {
			return fmt.Errorf("%w: writing the free list: %w", ErrUnknownOutcome, err)
		}
		panic(errReload)
	})
}

// tidyList keeps the free list short after a commit, and refills it from the
// parked pages when it runs low.
func (h *handle) tidyList() error {
	st := h.Stats()
	n := st.FreePageN + st.PendingPageN
	if n <= maxFree && (n >= fewFree || len(h.parked) == 0) {
		return nil
	}
	if n > maxFree {
		// bbolt releases freed pages that readers still use later, so they
		// must not be parked.
		btx, err := h.Begin(true)
		if err != nil {
			return fmt.Errorf("beginning transaction: %w", err)
		}
		h.rollback(btx)
		if h.Stats().PendingPageN > 0 {
			return nil // try again after another commit
		}
	}
	m, data, err := h.newest()
	if err != nil {
		return err
	}
	l, err := readList(data, &m)
	if err != nil {
		return err
	}
	var free []uint64
	var parked []run
	if n > maxFree {
		free, parked = keep(runsOf(l.ids))
		parked = append(parked, h.parked...)
	} else {
		free, parked = keep(h.parked)
		free = append(free, l.ids...)
		slices.Sort(free)
	}
	if err := h.relist(m, free); err != nil {
		return err
	}
	h.parked, h.left = parked, append(h.left, l.own)
	return nil
}

// unpark puts the parked pages back into the list, so that the list of a closed
// file is complete. Nobody uses the handle.
func (h *handle) unpark() error {
	if len(h.parked)+len(h.left) == 0 {
		return nil
	}
	m, data, err := h.newest()
	if err != nil {
		return err
	}
	l, err := readList(data, &m)
	if err != nil {
		return err
	}
	free := l.ids
	for _, r := range slices.Concat(h.parked, h.left, []run{l.own}) {
		for id := r.start; id < r.end(); id++ {
			free = append(free, id)
		}
	}
	slices.Sort(free)
	return writeList(h.file, m, free) // bbolt is about to be closed
}
