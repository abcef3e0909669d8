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

// isTerminal reports whether w is a terminal, so that a person reads it.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// offerKey shows a fresh key, as terraform-backend does, if the configuration failed for lack of one (KMS_BACKEND=local
// alone) and w is a terminal: in a log the key would not be secret. It returns err, which names keygen.
func offerKey(err error, w io.Writer, isTerminal func(io.Writer) bool) error {
	if e, ok := errors.AsType[*config.Error](err); ok && e.NoKey && isTerminal(w) {
		key, _ := seal.NewKey()
		fmt.Fprintf(w, "KMS_BACKEND=local needs a key. This one is fresh and kept nowhere; whoever has it and the store has the secrets:\n\n    export KMS_KEY=%s\n\n", key)
	}
	return err
}
