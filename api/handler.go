package api

import (
	"io"

	"github.com/sealkeep/sealkeep/storage"
)

// A Handler computes an answer. It returns after its transactions have ended.
type Handler struct {
	plan  *plan
	fresh func() any
	run   func(*Request, any) (Answer, error)
	data  any  // an example of Answer.Data; nil: its fields are not fixed
	raw   bool // it is of Answer.Raw.JSON
	up    bool // it reads the body itself
}

// None is what a handler takes that takes nothing.
type None struct{}

// Run answers a request, with what Decode has returned for it.
func (h Handler) Run(r *Request, in any) (Answer, error) { return h.run(r, in) }

func newHandler[In any](run func(*Request, *In) (Answer, error)) Handler {
	return Handler{
		plan:  planOf[In](),
		fresh: func() any { return new(In) },
		run:   func(r *Request, in any) (Answer, error) { return run(r, in.(*In)) },
	}
}

// View answers from what one read transaction sees.
func View[In any](fn func(*Request, *storage.Tx, *In) (Answer, error)) Handler {
	return newHandler(func(r *Request, in *In) (a Answer, err error) {
		err = r.View(func(tx *storage.Tx) error {
			a, err = fn(r, tx, in)
			return err
		})
		return a, err
	})
}

// Update answers what fn does in one write transaction, see [Request.Update].
func Update[In any](fn func(*Request, *storage.Tx, *In) (Answer, error)) Handler {
	return newHandler(func(r *Request, in *In) (a Answer, err error) {
		err = r.Update(func(tx *storage.Tx) error {
			var err error
			a, err = fn(r, tx, in)
			return err
		})
		if err != nil {
			return Answer{}, err
		}
		return a, nil
	})
}

// Do answers what fn does, which has the transactions that it makes itself.
func Do[In any](fn func(*Request, *In) (Answer, error)) Handler { return newHandler(fn) }

// Upload answers what fn does with a body of any length, up to that of the route, as
// it arrives; In is filled from the query. Reading fails with an [Error] when the body
// is cut off, comes too slowly or is too long. The transactions are fn's own.
func Upload[In any](fn func(*Request, io.Reader, *In) (Answer, error)) Handler {
	h := newHandler(func(r *Request, in *In) (Answer, error) { return fn(r, r.Upload, in) })
	h.up = true
	return h
}

// Uploads reports whether the handler reads the body itself.
func (h Handler) Uploads() bool { return h.up }

// LogIn gives a token to whom check recognises. name says whose failures count
// against whom, see [Frame]: the name of a role or user, and the group that it
// belongs to. check may take its time; what it returns is read again in the
// transaction that makes the token.
func LogIn[In any](name func(*Request, *In) (name, group string, err error), check func(*Request, *In) (Proof, error)) Handler {
	return newHandler(func(r *Request, in *In) (Answer, error) {
		who, group, err := name(r, in)
		if err != nil {
			return Answer{}, err
		}
		return r.Frame.LogIn(who, group, func() (Proof, error) { return check(r, in) })
	})
}

// Before returns a handler that has fn run before h does.
func (h Handler) Before(fn func(*Request)) Handler {
	run := h.run
	h.run = func(r *Request, in any) (Answer, error) {
		fn(r)
		return run(r, in)
	}
	return h
}
