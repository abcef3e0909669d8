package tfstate

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/engine/tfstate/state"
	"github.com/sealkeep/sealkeep/storage"
)

// codec compresses the pieces of all states, two at a time.
var codec state.Codec

// buffers are pieces that arrive. They hold plaintext, as the heap does while a keep is
// open.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, state.Piece)
	return &b
}}

// A content is a state on its way into the store.
type content struct {
	blob    *storage.BlobWriter
	scanned state.Scanner
	size    int64
	sha256  [sha256.Size]byte
	md5     [md5.Size]byte
}

// store reads a state to its end and stores it, piece by piece, as a blob that nothing
// refers to yet. The hashes are computed beside the compression.
func store(r *api.Request, in io.Reader) (c *content, err error) {
	c = &content{blob: r.Store.NewBlob()}
	defer func() {
		if err != nil {
			c.abandon(r)
		}
	}()
	sha, sum := sha256.New(), md5.New()
	pieces := [2]*[]byte{buffers.Get().(*[]byte), buffers.Get().(*[]byte)}
	defer func() {
		for _, b := range pieces {
			buffers.Put(b)
		}
	}()
	hashed := make(chan struct{}, 1) // the piece before has been
	hashed <- struct{}{}
	for i := 0; ; i = 1 - i {
		n, err := io.ReadFull(in, *pieces[i])
		<-hashed
		piece := (*pieces[i])[:n]
		if n > 0 {
			c.size += int64(n)
			c.scanned.Write(piece)
			go func() {
				for _, h := range []hash.Hash{sha, sum} {
					h.Write(piece)
				}
				hashed <- struct{}{}
			}()
			frame, err := codec.Compress(piece)
			if err == nil {
				err = c.blob.Append(r.Context, frame)
			}
			if err != nil {
				<-hashed
				return c, err
			}
		} else {
			hashed <- struct{}{}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			<-hashed
			sha.Sum(c.sha256[:0])
			sum.Sum(c.md5[:0])
			return c, c.scanned.Close()
		case err != nil:
			<-hashed
			return c, err
		}
	}
}

// abandon deletes what was stored in vain, also when the client has gone.
func (c *content) abandon(r *api.Request) {
	if err := c.blob.Abandon(context.WithoutCancel(r.Context)); err != nil {
		r.Frame.Log().Warn("what was stored of a state that was refused is left to the sweep", "error", err)
	}
}

// A reader reads the pieces of a stored version, each in a transaction of its own. A
// version that is deleted meanwhile ends it with an error, so that the client sees that
// its answer was cut off.
type reader struct {
	ctx   context.Context
	store *storage.Store
	blob  storage.Blob
	next  uint32
	piece []byte
	rest  []byte // of piece
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.next == r.blob.Chunks {
			return 0, io.EOF
		}
		var frame []byte
		err := r.store.View(r.ctx, func(tx *storage.Tx) (err error) {
			frame, err = tx.Chunk(r.blob, r.next)
			return err
		})
		if err == nil {
			r.piece, err = codec.Decompress(r.piece, frame)
			r.rest = r.piece
		}
		if errors.Is(err, state.ErrDamaged) {
			err = fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
		}
		if err != nil {
			return 0, err
		}
		r.next++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *reader) Close() error { return nil }

// find returns a version of a state, 0 being the newest, and what reads it.
func find(r *api.Request, n int) (h *head, v *version, in *reader, err error) {
	e, path := of(r)
	err = r.View(func(tx *storage.Tx) (err error) {
		if h, err = e.live(tx, path); err != nil {
			return err
		}
		v = h.Current
		if n != 0 && n != v.Number {
			if v, err = e.version(tx, h, n); err != nil {
				return err
			}
		}
		b, err := tx.Blob(e.dataPath(h.ID, v.Number))
		if err == nil && b == nil {
			err = fmt.Errorf("%w: version %d of a state has no content", storage.ErrCorrupt, v.Number)
		}
		if err != nil {
			return err
		}
		in = &reader{ctx: r.Context, store: r.Store, blob: *b}
		return nil
	})
	return h, v, in, err
}
