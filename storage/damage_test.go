package storage

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	traceback "runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// damage is one change of a store's file.
type damage struct {
	Name    string
	Patches []patch
	Cut     int64 // truncate to this size; 0 is not at all
}

type patch struct {
	Off   int64
	Bytes []byte
}

// states are what the store held after its last commit and after the one
// before.
type states struct{ Last, Before map[string]string }

// What became of a damaged store. The last two are failures.
const (
	unchanged  = "unchanged"   // all is read as it was, and the check is clean
	reported   = "reported"    // opening, a read or the check says so
	rolledBack = "rolled back" // all is as before the last commit, and the check is clean
	wrong      = "WRONG"
	silent     = "SILENT LOSS"
)

// TestDamage damages stores of several shapes, bit by bit and page by page, and
// has each examined in a process that must survive: every damage is reported by
// opening, by a read or by the check, or changes nothing. What could be read
// before the store is written to can be read afterwards, too. Only where a whole
// page is gone may the last commit be taken back: it was the newer meta page, or,
// in a store that is one page, an older state of that page was copied over it.
//
// SEALKEEP_LONG=1 makes it 10,000 flips and 2,000 pages.
func TestDamage(t *testing.T) {
	flips, pages, seed := 40, 25, uint64(1)
	if os.Getenv("SEALKEEP_LONG") != "" {
		flips, pages, seed = 2500, 500, rand.Uint64()
	}
	t.Logf("seed %d", seed)
	for shape, build := range map[string]func(*testing.T, *Store) states{
		"few values": buildFew, "many values": buildMany, "large values": buildLarge, "rewritten": buildRewritten,
	} {
		t.Run(shape, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(len(shape))))
			path := filepath.Join(t.TempDir(), "s.db")
			if err := Create(path, NewUUID(), faultRoot, []Slot{{Name: "one", Type: "static", Blob: []byte("b")}}, nil, damageOptions); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, damageOptions)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Unseal(faultRoot); err != nil {
				t.Fatal(err)
			}
			st := build(t, s)
			pageSize := s.state.Load().h.pageSize
			tx, err := s.state.Load().h.Begin(false)
			if err != nil {
				t.Fatal(err)
			}
			used := int(tx.Size())
			tx.Rollback()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			image, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			x := newExaminer(t, path, st)
			if got := x.examine(damage{Name: "none"}); got != unchanged {
				t.Fatalf("without damage: %s", got)
			}
			counts := map[string]map[string]int{"bit": {}, "page": {}}
			try := func(kind string, d damage) {
				got := x.examine(d)
				counts[kind][got]++
				switch got {
				case unchanged, reported:
				case rolledBack:
					if kind == "bit" {
						t.Errorf("%s: %s", d.Name, got)
					}
				default:
					t.Errorf("%s: %s", d.Name, got)
				}
			}
			for range flips {
				off := r.IntN(used)
				bit := byte(1) << r.IntN(8)
				try("bit", damage{Name: fmt.Sprintf("bit %#x at %d (page %d)", bit, off, off/pageSize), Patches: []patch{{int64(off), []byte{image[off] ^ bit}}}})
			}
			for range pages {
				try("page", damagePage(r, image[:used], pageSize))
			}
			t.Logf("%d KiB: bits %v, pages %v", used>>10, counts["bit"], counts["page"])
		})
	}
}

// field is a part of a page that has a meaning.
type field struct {
	kind   string
	off, n int64
}

// fieldsOf lists the fields of every page that a file uses.
func fieldsOf(t *testing.T, image []byte) (fields []field) {
	t.Helper()
	ms, err := readMetas(image)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(ms.pageSize)
	add := func(kind string, off, n int64) {
		if n > 0 {
			fields = append(fields, field{kind, off, n})
		}
	}
	for page := range int64(2) {
		kind := "newer meta "
		if uint64(page) != ms.page {
			kind = "older meta "
		}
		for name, at := range map[string]int64{"root": 16, "sequence": 24, "free list": 32, "pages": 40, "transaction": 48, "checksum": 56} {
			add(kind+name, page*size+pageHeader+at, 8)
		}
		for name, at := range map[string]int64{"magic": 0, "version": 4, "page size": 8, "flags": 12} {
			add(kind+name, page*size+pageHeader+at, 4)
		}
	}
	header := func(kind string, at int64) {
		add(kind+" number", at, 8)
		add(kind+" flags", at+8, 2)
		add(kind+" count", at+10, 2)
		add(kind+" overflow", at+12, 4)
	}
	list := int64(ms.free) * size
	header("free list", list)
	l, err := readList(image, &ms.meta)
	if err != nil || l.own.n < 2 {
		t.Fatalf("a free list of %d pages, %v: the store is to have one that overflows", l.own.n, err)
	}
	for i := range l.ids {
		add("free list entry", list+pageHeader+8*int64(i), 8)
	}
	used, err := reachable(bytes.NewReader(image), &ms.meta, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for id := uint64(2); id < ms.pages; {
		tr := tree{data: image, pageSize: int(size)}
		p, err := tr.page(id)
		if !used.has(id) || err != nil {
			id++
			continue
		}
		at, kind := int64(id)*size, "branch"
		if p.leaf {
			kind = "leaf"
			if len(p.b) > int(size) {
				kind = "overflowing leaf"
			}
		}
		header(kind, at)
		for i := range p.n {
			e := at + pageHeader + element*int64(i)
			start, ksize, vsize := p.bounds(i)
			if p.leaf {
				add(kind+" element's flags", e, 4)
				add(kind+" element's place", e+4, 4)
				add(kind+" element's key size", e+8, 4)
				add(kind+" element's value size", e+12, 4)
			} else {
				add(kind+" element's place", e, 4)
				add(kind+" element's key size", e+4, 4)
				add(kind+" element's child", e+8, 8)
			}
			add(kind+" key", at+int64(start), int64(ksize))
			add(kind+" value", at+int64(start+ksize), int64(vsize))
		}
		id += uint64(len(p.b) / int(size))
	}
	return fields
}

// buildStructure makes a store with every kind of page: branches, leaves that
// overflow, blobs, buckets inside their elements, and a free list that overflows.
func buildStructure(t *testing.T, s *Store) states {
	m := map[string]string{}
	for f := range 20 {
		edits := map[string]string{}
		for i := range 40 {
			edits[fmt.Sprintf("folder%d/secret%d", f, i)] = strings.Repeat("v", 20+i*3)
		}
		edits[fmt.Sprintf("large/%d", f)] = strings.Repeat("w", 9000+f)
		commitAll(t, s, m, edits)
	}
	b, err := s.WriteBlob(t.Context(), strings.NewReader(strings.Repeat("b", MaxValue+5000)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutBlob("blob", b) }); err != nil {
		t.Fatal(err)
	}
	edits := map[string]string{}
	for i := range 400 {
		edits[fmt.Sprintf("gone/%d", i)] = strings.Repeat("g", 9000)
	}
	commitAll(t, s, m, edits)
	for k := range edits {
		edits[k] = ""
	}
	commitAll(t, s, m, edits)
	return last(t, s, m)
}

// TestDamageByStructure damages one to three bits of every field of every kind of
// page. No write that was acknowledged and no secret is lost, no process ends,
// and each damage is reported or has no effect; of a meta page, or the free list,
// nothing at all is lost.
//
// SEALKEEP_LONG=1 makes it 1,000 damages.
func TestDamageByStructure(t *testing.T) {
	n, seed := 53, uint64(1)
	if os.Getenv("SEALKEEP_LONG") != "" {
		n, seed = 1000, rand.Uint64()
	}
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 7))
	path := filepath.Join(t.TempDir(), "s.db")
	if err := Create(path, NewUUID(), faultRoot, []Slot{{Name: "one", Type: "static", Blob: []byte("b")}}, nil, damageOptions); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, damageOptions)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unseal(faultRoot); err != nil {
		t.Fatal(err)
	}
	st := buildStructure(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	byKind := map[string][]field{}
	for _, f := range fieldsOf(t, image) {
		byKind[f.kind] = append(byKind[f.kind], f)
	}
	kinds := slices.Sorted(maps.Keys(byKind))
	if len(kinds) < 50 {
		t.Fatalf("only %d kinds of fields: %q", len(kinds), kinds)
	}
	x := newExaminer(t, path, st)
	counts := map[string]int{}
	for i := range n {
		kind := kinds[i%len(kinds)]
		f := byKind[kind][r.IntN(len(byKind[kind]))]
		b := bytes.Clone(image[f.off : f.off+f.n])
		for range 1 + r.IntN(3) {
			bit := r.IntN(8 * len(b))
			b[bit/8] ^= 1 << (bit % 8)
		}
		if bytes.Equal(b, image[f.off:f.off+f.n]) {
			continue
		}
		got := x.examine(damage{Name: kind, Patches: []patch{{f.off, b}}})
		counts[got]++
		harmless := strings.Contains(kind, "meta") || strings.HasPrefix(kind, "free list")
		if got != unchanged && (got != reported || harmless) {
			t.Errorf("%s at %d, %x instead of %x: %s", kind, f.off, b, image[f.off:f.off+f.n], got)
		}
	}
	t.Logf("%d kinds of fields: %v", len(kinds), counts)
}

var damageOptions = Options{InitialMmapSize: 1 << 20}

// damagePage makes one of the damages that a disk or a hand can do to pages.
func damagePage(r *rand.Rand, image []byte, size int) damage {
	n := len(image) / size
	page := func(i int) []byte { return slices.Clone(image[i*size : (i+1)*size]) }
	at := func(i int) int64 { return int64(i * size) }
	a, b := r.IntN(n), r.IntN(n)
	var branches []int
	for i := 2; i < n; i++ {
		if binary.NativeEndian.Uint16(image[i*size+8:]) == flagBranch {
			branches = append(branches, i)
		}
	}
	switch kind := r.IntN(9); {
	case kind == 0:
		return damage{Name: fmt.Sprintf("pages %d and %d swapped", a, b), Patches: []patch{{at(a), page(b)}, {at(b), page(a)}}}
	case kind == 1:
		return damage{Name: fmt.Sprintf("page %d zeroed", a), Patches: []patch{{at(a), make([]byte, size)}}}
	case kind == 2:
		return damage{Name: fmt.Sprintf("page %d copied over %d", b, a), Patches: []patch{{at(a), page(b)}}}
	case kind == 3: // and made to look as if it belonged there
		p := page(b)
		binary.NativeEndian.PutUint64(p, uint64(a))
		return damage{Name: fmt.Sprintf("page %d copied over %d with its number", b, a), Patches: []patch{{at(a), p}}}
	case kind == 4:
		return damage{Name: fmt.Sprintf("cut after page %d", a), Cut: at(max(a, 1))}
	case kind == 5:
		p := page(a)
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		return damage{Name: fmt.Sprintf("page %d overwritten", a), Patches: []patch{{at(a), p}}}
	case kind == 6: // header: flags, count, overflow
		p := page(a)[:16]
		binary.NativeEndian.PutUint16(p[8:], uint16(1)<<r.IntN(6))
		binary.NativeEndian.PutUint16(p[10:], uint16(r.Uint32()))
		if r.IntN(2) == 0 {
			binary.NativeEndian.PutUint32(p[12:], r.Uint32()>>r.IntN(32))
		}
		return damage{Name: fmt.Sprintf("header of page %d", a), Patches: []patch{{at(a), p}}}
	case kind == 7 && len(branches) > 0: // the key of a branch
		from := branches[r.IntN(len(branches))]
		p := page(from)
		child := r.IntN(max(1, min(int(binary.NativeEndian.Uint16(p[10:])), (size-pageHeader)/element)))
		e := pageHeader + child*element
		key := e + int(binary.NativeEndian.Uint32(p[e:]))
		if n := int(binary.NativeEndian.Uint32(p[e+4:])); n > 0 && key+n <= size {
			p[key+r.IntN(n)] ^= 1 << r.IntN(8)
		}
		return damage{Name: fmt.Sprintf("key of branch %d of page %d", child, from), Patches: []patch{{at(from), p}}}
	case len(branches) > 0: // a circle: a branch that leads to a branch, itself too
		from, to := branches[r.IntN(len(branches))], branches[r.IntN(len(branches))]
		child := r.IntN(max(1, int(binary.NativeEndian.Uint16(image[from*size+10:]))))
		return damage{Name: fmt.Sprintf("branch %d of page %d leads to %d", child, from, to),
			Patches: []patch{{at(from) + pageHeader + int64(child)*element + 8, binary.NativeEndian.AppendUint64(nil, uint64(to))}}}
	default: // a leaf that calls itself a branch, of itself
		p := page(a)
		binary.NativeEndian.PutUint16(p[8:], flagBranch)
		for i := range min(int(binary.NativeEndian.Uint16(p[10:])), (size-pageHeader)/element) {
			binary.NativeEndian.PutUint64(p[pageHeader+i*element+8:], uint64(a))
		}
		return damage{Name: fmt.Sprintf("page %d leads to itself", a), Patches: []patch{{at(a), p}}}
	}
}

// A branch whose key is not the first of its page: bbolt would write that page
// anew, not find the old one in the branch, and leave it there beside the new one
// while it frees it.
func TestBranchKeys(t *testing.T) {
	s, root := newStore(t)
	buildMany(t, s)
	type edit struct {
		at   int // in the file, of the last byte of a branch's key
		path string
	}
	var edits []edit
	if err := s.View(t.Context(), func(tx *Tx) error {
		data, err := tx.trees.of(bucketData)
		if err != nil {
			return err
		}
		c := cursor{tree: data}
		for k, _ := c.Seek(nil); k != nil; k, _ = c.Next() {
			n := len(c.way)
			if n < 2 || c.way[n-1].i != 1 {
				continue // not the second key of a leaf
			}
			branch := c.way[n-2]
			key, _, _, _, err := branch.page.at(branch.i)
			if err != nil {
				return err
			}
			path, err := tx.keys.decodePath(k)
			if err != nil {
				return err
			}
			at := int(binary.NativeEndian.Uint64(branch.page.b))*s.state.Load().h.pageSize + bytes.Index(branch.page.b, key) + len(key) - 1
			edits = append(edits, edit{at, path})
		}
		if c.err != nil {
			return c.err
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(edits) < 20 {
		t.Fatalf("only %d branches", len(edits))
	}
	whole, _ := backup(t, s)
	image, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		damaged := bytes.Clone(image)
		damaged[e.at] ^= 1
		path := filepath.Join(t.TempDir(), "s.db")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Inspect(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit at %d: Inspect: %v", e.at, err)
		}
		s := reopen(t, path, root)
		err = s.Update(t.Context(), func(tx *Tx) error { return tx.Put(e.path, []byte("new")) })
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit at %d: writing to its page: %v", e.at, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func commitAll(t *testing.T, s *Store, m map[string]string, edits map[string]string) {
	t.Helper()
	err := s.Update(t.Context(), func(tx *Tx) error {
		for k, v := range edits {
			if v == "" {
				delete(m, k)
				if err := tx.Delete(k); err != nil {
					return err
				}
				continue
			}
			m[k] = v
			if err := tx.Put(k, []byte(v)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// last makes a final commit that touches old and new, and gives both states.
func last(t *testing.T, s *Store, m map[string]string) states {
	st := states{Before: maps.Clone(m)}
	edits := map[string]string{"last/new": "last"}
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i%17 == 0 {
			edits[k] = "changed " + k
		} else if i%23 == 0 {
			edits[k] = ""
		}
	}
	commitAll(t, s, m, edits)
	st.Last = m
	return st
}

func buildFew(t *testing.T, s *Store) states {
	m := map[string]string{}
	commitAll(t, s, m, map[string]string{"a": "1", "a/b": "2", "c/d/e": "3"})
	return last(t, s, m)
}

func buildMany(t *testing.T, s *Store) states {
	m := map[string]string{}
	for f := range 30 {
		edits := map[string]string{}
		for i := range 40 {
			edits[fmt.Sprintf("folder%d/secret%d", f, i)] = strings.Repeat("v", 20+i*3)
		}
		commitAll(t, s, m, edits)
	}
	return last(t, s, m)
}

func buildLarge(t *testing.T, s *Store) states {
	m := map[string]string{}
	for i := range 12 {
		commitAll(t, s, m, map[string]string{fmt.Sprintf("large/%d", i): strings.Repeat(fmt.Sprint(i), 1+i*3000)})
	}
	return last(t, s, m)
}

func buildRewritten(t *testing.T, s *Store) states {
	m := map[string]string{}
	for round := range 6 {
		edits := map[string]string{}
		for i := range 150 {
			edits[fmt.Sprintf("f%d/k%d", i%7, i)] = strings.Repeat(fmt.Sprint(round), 100)
		}
		commitAll(t, s, m, edits)
		if err := s.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		for k := range edits {
			if len(k)%2 == 0 {
				edits[k] = ""
			}
		}
		commitAll(t, s, m, edits)
	}
	return last(t, s, m)
}

// examiner is a process that damages the file, looks at it and mends it again.
type examiner struct {
	t    *testing.T
	path string
	args []string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs *bytes.Buffer
}

func newExaminer(t *testing.T, path string, st states) *examiner {
	t.Helper()
	b, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(t.TempDir(), "model.json")
	if err := os.WriteFile(model, b, 0o600); err != nil {
		t.Fatal(err)
	}
	x := &examiner{t: t, path: path, args: []string{path, model}}
	x.start()
	t.Cleanup(func() {
		if x.cmd.ProcessState != nil {
			return // it was reported
		}
		x.in.Close()
		if err := x.cmd.Wait(); err != nil {
			t.Errorf("examiner: %v: %s", err, x.errs)
		}
	})
	return x
}

func (x *examiner) start() {
	x.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		x.t.Fatal(err)
	}
	x.cmd = exec.Command(exe, x.args...)
	x.cmd.Env = append(os.Environ(), stageVar+"=examine")
	x.errs = new(bytes.Buffer)
	x.cmd.Stderr = x.errs
	if x.in, err = x.cmd.StdinPipe(); err != nil {
		x.t.Fatal(err)
	}
	out, err := x.cmd.StdoutPipe()
	if err != nil {
		x.t.Fatal(err)
	}
	x.out = bufio.NewReader(out)
	if err := x.cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
}

func (x *examiner) examine(d damage) string {
	x.t.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		x.t.Fatal(err)
	}
	if _, err := x.in.Write(append(b, '\n')); err != nil {
		x.t.Fatalf("%s: %v", d.Name, err)
	}
	line, err := x.out.ReadString('\n')
	if err != nil {
		err := x.cmd.Wait()
		x.t.Fatalf("%s ended the process: %v: %.9000s", d.Name, err, x.errs)
	}
	return strings.TrimSpace(line)
}

// examineAll is the examiner's process.
func examineAll(path, model string) error {
	b, err := os.ReadFile(model)
	if err != nil {
		return err
	}
	var st states
	if err := json.Unmarshal(b, &st); err != nil {
		return err
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	traceback.SetTraceback("all")
	for dec := json.NewDecoder(os.Stdin); ; {
		var d damage
		if err := dec.Decode(&d); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		damaged := slices.Clone(image)
		for _, p := range d.Patches {
			copy(damaged[p.Off:], p.Bytes)
		}
		size := int64(len(damaged))
		if d.Cut > 0 {
			size = d.Cut
		}
		// With its holes, for the syncs write what is written.
		if err := os.WriteFile(path, bytes.TrimRight(damaged[:size], "\x00"), 0o600); err != nil {
			return err
		}
		if err := os.Truncate(path, size); err != nil {
			return err
		}
		stuck := time.AfterFunc(30*time.Second, func() { panic("stuck") })
		fmt.Println(examine(path, st))
		stuck.Stop()
	}
}

// examine looks at a damaged store as a daemon would, writes to it, opens it anew
// and looks again: what could be read must be there still, and what was written.
func examine(path string, st states) string {
	s, err := Open(path, damageOptions)
	if err != nil {
		return reported
	}
	defer func() { s.Close() }()
	if err := s.Unseal(faultRoot); err != nil {
		return reported
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	outcome := compare(s, st)
	if outcome == wrong {
		return wrong
	}
	if r, err := s.Check(ctx); err != nil || !r.OK() {
		outcome = reported
	}
	want := map[string]string{}
	for path := range st.Last {
		if v, err := get(s, path); err == nil && v != nil {
			want[path] = string(v)
		}
	}
	// Each in its commit, so that pages are freed and used again.
	write := func(path, value string) {
		if s.Update(ctx, func(tx *Tx) error {
			_, err := tx.List("")
			return errors.Join(err, tx.Put(path, []byte(value)), tx.Delete("last/new"), tx.Put("last/new", []byte("last")))
		}) == nil {
			want[path] = value
		}
	}
	for i := range 3 {
		write(fmt.Sprintf("written/%d", i), strings.Repeat("1", 3000*i))
	}
	for i, path := range slices.Sorted(maps.Keys(st.Last)) {
		if i%200 == 0 {
			write(path, st.Last[path])
		}
	}
	if err := s.Close(); err != nil {
		return wrong + ": closing: " + err.Error()
	}
	if s, err = Open(path, damageOptions); err != nil {
		return wrong + ": opening it again: " + err.Error()
	}
	if err := s.Unseal(faultRoot); err != nil {
		return wrong + ": unsealing it again: " + err.Error()
	}
	for path, value := range want {
		if v, err := get(s, path); err != nil || string(v) != value {
			return fmt.Sprintf("%s: %s was lost by writing: %v", wrong, path, err)
		}
	}
	if compare(s, st) == wrong {
		return wrong
	}
	return outcome
}

// compare reads everything that the store may hold.
func compare(s *Store, st states) string {
	paths := maps.Clone(st.Last)
	maps.Copy(paths, st.Before)
	isLast, isBefore, failed := true, true, false
	folders := map[string]bool{"": true}
	for path := range paths {
		v, err := get(s, path)
		if err != nil {
			failed = true
			continue
		}
		now, before := st.Last[path], st.Before[path]
		if got := string(v); got != now && got != before && v != nil {
			return wrong
		}
		isLast, isBefore = isLast && string(v) == now, isBefore && string(v) == before
		for i, c := range path {
			if c == '/' {
				folders[path[:i]] = true
			}
		}
	}
	for folder := range folders {
		err := s.View(context.Background(), func(tx *Tx) error { _, err := tx.List(folder); return err })
		failed = failed || err != nil
	}
	switch {
	case failed:
		return reported
	case isLast:
		return unchanged
	case isBefore:
		return rolledBack
	}
	return silent
}
