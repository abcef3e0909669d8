package server

import (
	"context"
	"errors"
	"net/http"
	"syscall"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/storage"
)

var (
	// ErrRequest means that the request is wrong; the text says what to change.
	ErrRequest = api.ErrRequest
)

func invalid(format string, args ...any) error { return api.Invalid.Errorf(format, args...) }

// The answers of Vault that have a fixed text.
var (
	errMethod = &api.Error{Code: api.Unsupported, Text: "1 error occurred:\n\t* unsupported operation\n\n"}
)

// And ours.
var (
	errSlowBody = &api.Error{Code: api.Slow, Text: "the request's body did not arrive in time"}
	errGaveWay  = &api.Error{Code: api.Unavailable, Text: "the request's body arrived slowly, or was one of many large ones at once, while others waited: try again"}
	errCutOff   = &api.Error{Code: api.Invalid, Text: "the request's body ended before its Content-Length: nothing was stored"}
	errNoToken  = &api.Error{Code: api.Unknown, Text: "no token was sent: send it as the password of Basic authentication, or in the header Authorization: Bearer or X-Vault-Token"}
	errBusy     = &api.Error{Code: api.Unavailable, Text: "too many large requests at once: try again"}
)

func errTooLarge(limit int64) error {
	return api.TooLarge.Errorf("http: request body too large: at most %d bytes are accepted here", limit)
}

func errNoRoute(path string) error {
	return api.NotFound.Errorf("no handler for route %q. route entry not found.", path)
}

var statuses = [api.Codes]int{
	api.Invalid: http.StatusBadRequest, api.Unknown: http.StatusUnauthorized, api.Denied: http.StatusForbidden, api.Absent: http.StatusNotFound, api.NotFound: http.StatusNotFound,
	api.Unsupported: http.StatusMethodNotAllowed, api.Slow: http.StatusRequestTimeout, api.Conflict: http.StatusConflict, api.Locked: http.StatusLocked, api.TooLarge: http.StatusRequestEntityTooLarge,
	api.MediaType: http.StatusUnsupportedMediaType, api.Unproven: http.StatusPreconditionRequired, api.Busy: http.StatusTooManyRequests,
	api.Failed: http.StatusInternalServerError, api.Unavailable: http.StatusServiceUnavailable, api.Full: http.StatusInsufficientStorage,
}

// fault maps an error to a status and to the text for the client, which is empty
// where Vault sends no text. ours means that it is not the client's: it belongs
// in the log with everything known about it.
func fault(err error) (status int, text string, ours bool) {
	if told, ok := errors.AsType[*api.Error](err); ok {
		return statuses[told.Code], told.Text, false
	}
	switch {
	case errors.Is(err, access.ErrDenied):
		return http.StatusForbidden, access.ErrDenied.Error(), false
	case errors.Is(err, audit.ErrFailed):
		return http.StatusInternalServerError, err.Error(), false // the log has it once, not for each request
	case errors.Is(err, keep.ErrInitialized):
		return http.StatusBadRequest, "Vault is already initialized", false
	case errors.Is(err, keep.ErrNotInitialized), errors.Is(err, access.ErrToken), errors.Is(err, access.ErrInvalid), errors.Is(err, audit.ErrInvalid),
		errors.Is(err, storage.ErrPath):
		return http.StatusBadRequest, err.Error(), false
	case errors.Is(err, storage.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, err.Error(), false
	case errors.Is(err, storage.ErrSealed), errors.Is(err, storage.ErrClosed):
		return http.StatusServiceUnavailable, api.ErrSealed.Error(), false
	case errors.Is(err, storage.ErrBusy):
		return http.StatusTooManyRequests, "too many writes are waiting: try again", false
	case errors.Is(err, storage.ErrUnavailable):
		return http.StatusServiceUnavailable, "the store is recovering from a failed write: try again", false
	case errors.Is(err, storage.ErrUnknownOutcome) && errors.Is(err, syscall.ENOSPC):
		return http.StatusInternalServerError,
			"the outcome of the write is unknown: the disk is full; free some space, then read it again before you repeat it", true
	case errors.Is(err, storage.ErrUnknownOutcome):
		return http.StatusInternalServerError,
			"the outcome of the write is unknown: the disk failed while it was written; read it again before you repeat it", true
	case errors.Is(err, storage.ErrCorrupt):
		return http.StatusInternalServerError,
			"a stored record is damaged: see the server's log, and run `sealkeep operator storage check`", true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, storage.ErrExpired):
		return http.StatusServiceUnavailable, "the request took too long", true
	case errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, "the request was cancelled", false
	}
	return http.StatusInternalServerError, "internal error", true
}

// told is the error of a room as the client is told of it.
func (t *route) told(err error) error {
	if err == nil || t == nil || t.typ.Errors == nil {
		return err
	}
	if _, ok := errors.AsType[*api.Error](err); ok {
		return err
	}
	for of, code := range t.typ.Errors {
		switch {
		case !errors.Is(err, of):
		case code == api.Absent:
			return api.ErrAbsent
		default:
			return code.Errorf("%s", err)
		}
	}
	return err
}
