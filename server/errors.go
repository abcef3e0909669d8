package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/storage"
)

var (
	// ErrInitialized means that the keep has been initialized before.
	ErrInitialized = errors.New("the keep is already initialized")
	// ErrNotInitialized means that there is no store yet.
	ErrNotInitialized = errors.New("not initialized: run `sealkeep operator init`")
	// ErrRequest means that the request is wrong; the text says what to change.
	ErrRequest = errors.New("invalid request")
)

// A requestError is the client's mistake: its text goes to the client as it is.
type requestError struct {
	status int
	text   string // empty: Vault's empty list of errors
}

func (e *requestError) Error() string        { return e.text }
func (e *requestError) Is(target error) bool { return target == ErrRequest }

func invalid(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// The answers of Vault that have a fixed text.
var (
	errSealed = &requestError{http.StatusServiceUnavailable, "Vault is sealed"}
	errMethod = &requestError{http.StatusMethodNotAllowed, "1 error occurred:\n\t* unsupported operation\n\n"}
	errAbsent = &requestError{http.StatusNotFound, ""}
)

// And ours.
var (
	errSlowBody = &requestError{http.StatusRequestTimeout, "the request's body did not arrive in time"}
	errGaveWay  = &requestError{http.StatusServiceUnavailable, "the request's body arrived slowly, or was one of many large ones at once, while others waited: try again"}
	errBusy     = &requestError{http.StatusServiceUnavailable, "too many large requests at once: try again"}
)

func errTooLarge(limit int64) error {
	return &requestError{http.StatusRequestEntityTooLarge,
		fmt.Sprintf("http: request body too large: at most %d bytes are accepted here", limit)}
}

func errNoRoute(path string) error {
	return &requestError{http.StatusNotFound, fmt.Sprintf("no handler for route %q. route entry not found.", path)}
}

// fault maps an error to a status and to the text for the client, which is empty
// where Vault sends no text. ours means that it is not the client's: it belongs
// in the log with everything known about it.
func fault(err error) (status int, text string, ours bool) {
	var request *requestError
	var early *tooSoon
	switch {
	case errors.As(err, &early):
		return http.StatusTooManyRequests, early.text, false
	case errors.As(err, &request):
		return request.status, request.text, false
	case errors.Is(err, access.ErrDenied):
		return http.StatusForbidden, access.ErrDenied.Error(), false
	case errors.Is(err, audit.ErrFailed):
		return http.StatusInternalServerError, err.Error(), false // the log has it once, not for each request
	case errors.Is(err, access.ErrKeys):
		return http.StatusServiceUnavailable, access.ErrKeys.Error() + ": try again; the server's log says why", false
	case errors.Is(err, ErrInitialized):
		return http.StatusBadRequest, "Vault is already initialized", false
	case errors.Is(err, ErrNotInitialized), errors.Is(err, access.ErrToken), errors.Is(err, access.ErrInvalid), errors.Is(err, audit.ErrInvalid),
		errors.Is(err, storage.ErrPath), errors.Is(err, kv.ErrInvalid), errors.Is(err, kv.ErrCASMismatch), errors.Is(err, kv.ErrCASRequired),
		errors.Is(err, kv.ErrMetadataCASMismatch), errors.Is(err, kv.ErrMetadataCASRequired):
		return http.StatusBadRequest, err.Error(), false
	case errors.Is(err, kv.ErrNotFound):
		return http.StatusNotFound, "", false
	case errors.Is(err, storage.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, err.Error(), false
	case errors.Is(err, storage.ErrSealed), errors.Is(err, storage.ErrClosed):
		return http.StatusServiceUnavailable, errSealed.text, false
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
