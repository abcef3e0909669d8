package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/seal"
)

// isTerminal reports whether a person reads what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// offerKey shows a fresh key, as terraform-backend does, when the configuration failed for want of one (KMS_BACKEND=local
// alone) and a person reads it: in a log it would be no secret. It returns err, which names keygen.
func offerKey(err error, w io.Writer, isTerminal func(io.Writer) bool) error {
	if e, ok := errors.AsType[*config.Error](err); ok && e.NoKey && isTerminal(w) {
		key, _ := seal.NewKey()
		fmt.Fprintf(w, "KMS_BACKEND=local needs a key. This one is fresh and kept nowhere; whoever has it and the store has the secrets:\n\n    export KMS_KEY=%s\n\n", key)
	}
	return err
}
