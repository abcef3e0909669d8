package api

import (
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// A Gate says what a request must pass before its handler runs. The zero Gate asks
// for the most.
type Gate uint8

const (
	Authenticated Gate = iota // the keep is unsealed, and the token may do this
	Unsealed                  // the keep is unsealed; a token that is sent is looked up
	Open                      // always
)

// An Op is what a request wants, whatever HTTP method it came with.
type Op uint8

const (
	Read   Op = iota // GET
	List             // LIST, or GET with list=true
	Scan             // SCAN, or GET with scan=true: OpenBao's list of all folders beneath, too
	Write            // POST and PUT
	Patch            // PATCH
	Delete           // DELETE
	Head             // HEAD
	Lock             // LOCK: of a Terraform state
	Unlock           // UNLOCK
	Ops              // how many there are
)

// Folder reports whether the path of the operation is that of a folder.
func (o Op) Folder() bool { return o == List || o == Scan }

// HasBody reports whether the operation has a body; the others have a query.
func (o Op) HasBody() bool {
	return o == Write || o == Patch || o == Delete || o == Lock || o == Unlock
}

var capabilities = [Ops]access.Capability{
	Read: access.CanRead, List: access.CanList, Scan: access.CanScan, Write: access.CanUpdate,
	Patch: access.CanPatch, Delete: access.CanDelete, Head: access.CanRead, Lock: access.CanUpdate, Unlock: access.CanUpdate,
}

// Capability is what a policy must grant for the operation; a write of what is not
// there takes access.CanCreate in its place, see [Route].
func (o Op) Capability() access.Capability { return capabilities[o] }

var opNames = [Ops]string{
	Read: "read", List: "list", Scan: "scan", Write: "update", Patch: "patch", Delete: "delete", Head: "read", Lock: "update", Unlock: "update",
}

// String is the operation as the audit log has it.
func (o Op) String() string { return opNames[o] }

// Bounds of a route that says nothing else.
const (
	DefaultBody    = 64 << 10 // bytes
	DefaultTimeout = 30 * time.Second
)

// A Route is one row of a type's table.
//
// Its path is below the mount; "" is the mount itself. "{name}" stands for one segment;
// one such part, of the form "{name...}", may stand for several, and "{name...}" alone
// for the mount itself, too; "a/{name...}" does not fit "a", which takes a route of its
// own. A slash at the end of a path is cut off before; [Request].Slash says that it was
// there. Of the routes that fit a path, the
// one with the longer text before its first brace counts, then the one with the
// longer text after its last; two for which that is the same are a mistake that
// stops the start.
type Route struct {
	Path string
	Help string // one sentence
	Gate Gate
	Ops  map[Op]Handler
	Sudo []Op // operations that take this capability, too

	// Exists reports whether what a write is for is there; writing what is not is
	// creating. It is asked in the transaction that writes. nil: every write is an
	// update.
	Exists func(*Request, *storage.Tx) (bool, error)

	Body     int64         // most bytes of a body; 0: DefaultBody
	Timeout  time.Duration // of what has a body; 0: DefaultTimeout. Reads end with the store's ViewTimeout
	Settings bool          // what is written is kept: a field that is not known is refused
	Free     bool          // the fields of the body are the client's own data
	Quiet    bool          // not in the audit log: asked all the time, tells no secret
	Whole    []string      // fields, of the request and of its answer, that have one HMAC in the audit log, whatever is in them
	Denied   error         // what a token that does not work is told; nil: access.ErrDenied

	// Session reports whether something that the client holds open, such as a lock,
	// carries a proof that has ended: what it would have been, in HTTP's Basic
	// authentication, had it not ended, counts for this request. nil: nothing does.
	Session func(*Request, *storage.Tx) (bool, error)

	// Or is a path below the mount, with the same names in braces: what a policy allows
	// there it allows here, too, unless it denies this path. "": none.
	Or string

	// Folded says that a name in the path is the same in upper case: the request
	// is that of its canonical form.
	Folded bool
}
