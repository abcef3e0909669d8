package server

import (
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
)

// unsealedOf is the unsealed instance that answers a request, nil while there was none
// as it came in.
func unsealedOf(r *api.Request) *keep { return r.Frame.(*request).keep }

// entryOf is what the audit log is told of a request.
func entryOf(r *api.Request) *audit.Entry {
	f := r.Frame.(*request)
	if f.entry != nil {
		return f.entry
	}
	return f.server.auditEntry(f, nil)
}
