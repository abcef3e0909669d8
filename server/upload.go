package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// An upload is a body that the handler reads as it arrives. Each uploadPiece of it has
// exchangeTimeout to arrive; beyond the first bodySmall bytes it has one of the places
// of uploads, of which it may lose its to somebody who waits, as a large body does.
type upload struct {
	r       *request
	in      *byteCounter
	control *http.ResponseController
	next    int64 // bytes at which the deadline moves
	mine    *place
	ended   bool // it was read to its end
	err     error
}

const uploadPiece = 256 << 10

// beginUpload hands the body to the handler.
func (s *Server) beginUpload(r *request) {
	r.upload = &upload{
		r: r, in: &byteCounter{in: http.MaxBytesReader(r.w, r.http.Body, r.route.Body)}, control: http.NewResponseController(r.w),
	}
	r.Upload = r.upload
	r.end = append(r.end, r.upload.leave)
}

// drained reports whether the body was an upload that has been read to its end.
func (r *request) drained() bool { return r.upload != nil && r.upload.ended }

func (u *upload) leave() {
	if u.mine != nil {
		u.r.server.uploads.arrived(u.mine)
		u.r.server.uploads.leave(u.mine)
		u.mine = nil
	}
}

// Read reads the body.
func (u *upload) Read(b []byte) (n int, err error) {
	if u.err != nil {
		return 0, u.err
	}
	got := u.in.n.Load()
	if got >= bodySmall && u.mine == nil {
		if u.mine, u.err = placeFor(u.r, u.r.server.uploads); u.err != nil {
			u.r.w.Header().Set("Retry-After", "1")
			return 0, u.err
		}
		u.r.server.uploads.arriving(u.mine, &u.in.n, func() { u.control.SetReadDeadline(time.Unix(1, 0)) })
		u.next = got
	}
	if got >= u.next {
		now := time.Now()
		u.control.SetReadDeadline(now.Add(exchangeTimeout))
		u.control.SetWriteDeadline(now.Add(2 * exchangeTimeout))
		u.next = got + uploadPiece
	}
	n, err = u.in.Read(b[:min(len(b), uploadPiece)])
	if err != nil {
		u.err = u.failed(err)
	}
	return n, u.err
}

// failed is what the client is told of an error of reading; io.EOF is none.
func (u *upload) failed(err error) error {
	var large *http.MaxBytesError
	lost := u.mine != nil && u.r.server.uploads.arrived(u.mine)
	switch {
	case err == io.EOF:
		u.ended = true
		return err
	case lost:
		u.r.w.Header().Set("Retry-After", "1")
		return errGaveWay
	case errors.As(err, &large):
		return errTooLarge(u.r.route.Body)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlowBody
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errCutOff
	}
	return invalid("failed to read the body: %v", err)
}
