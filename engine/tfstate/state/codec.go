package state

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Piece is how many bytes of a state are compressed together, independently of the
// others: so many that a frame has at most 1 MiB, whatever is in it.
const Piece = 1<<20 - 1<<10

const window = 1 << 20

// A Codec compresses pieces of states. Its methods may be called by several goroutines
// at once; two of them work, the others wait.
type Codec struct {
	once    sync.Once
	err     error
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

func (c *Codec) open() error {
	c.once.Do(func() {
		c.encoder, c.err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2),
			zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true),
			zstd.WithAllLitEntropyCompression(true)) // keys in base64 are random, and yet three quarters of their size
		if c.err == nil {
			c.decoder, c.err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(Piece), zstd.WithDecoderMaxWindow(window),
				zstd.WithDecoderLowmem(true))
		}
	})
	return c.err
}

// Compress returns a piece as one zstd frame (RFC 8878), at the fastest level.
func (c *Codec) Compress(piece []byte) ([]byte, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	if len(piece) > Piece {
		return nil, fmt.Errorf("a piece of %d bytes: %w", len(piece), ErrTooLarge)
	}
	return c.encoder.EncodeAll(piece, nil), nil
}

// Decompress returns the piece in a frame, in the memory of dst where that suffices. It
// never allocates more than Piece for it. ErrDamaged.
func (c *Codec) Decompress(dst, frame []byte) ([]byte, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	piece, err := c.decoder.DecodeAll(frame, dst[:0])
	if err == nil && len(piece) > Piece {
		err = ErrTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return piece, nil
}
