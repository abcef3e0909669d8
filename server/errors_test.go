package server

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/storage"
)

func TestFault(t *testing.T) {
	typ := kv.Type()
	rt := &route{typ: &typ}
	for _, c := range []struct {
		err    error
		status int
		text   string
		ours   bool
	}{
		{storage.ErrSealed, 503, "Vault is sealed", false},
		{storage.ErrClosed, 503, "Vault is sealed", false},
		{storage.ErrUnavailable, 503, "recovering", false},
		{storage.ErrUnknownOutcome, 500, "outcome of the write is unknown", true},
		{storage.ErrTooLarge, 413, "too large", false},
		{storage.ErrPath, 400, "invalid path", false},
		{storage.ErrCorrupt, 500, "sealkeep operator storage check", true},
		{access.ErrDenied, 403, "permission denied", false},
		{kv.ErrNotFound, 404, "", false},
		{kv.ErrCASMismatch, 400, "check-and-set", false},
		{kv.ErrCASRequired, 400, "check-and-set", false},
		{kv.ErrMetadataCASMismatch, 400, "metadata check-and-set", false},
		{kv.ErrMetadataCASRequired, 400, "metadata check-and-set", false},
		{kv.ErrInvalid, 400, "invalid request", false},
		{fmt.Errorf("%w audit device a/: x", audit.ErrInvalid), 400, "invalid audit device a/: x", false},
		{keep.ErrInitialized, 400, "Vault is already initialized", false},
		{keep.ErrNotInitialized, 400, "operator init", false},
		{invalid("do %s", "this"), 400, "do this", false},
		{fs.ErrPermission, 500, "internal error", true},
		{errors.New("a secret detail"), 500, "internal error", true},
	} {
		status, text, ours := fault(rt.told(fmt.Errorf("doing: %w", c.err)))
		if status != c.status || !strings.Contains(text, c.text) || ours != c.ours || (c.text == "") != (text == "") {
			t.Errorf("%v: %d %q %v", c.err, status, text, ours)
		}
	}
}
