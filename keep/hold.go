package keep

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sealkeep/sealkeep/api"
)

// A hold keeps a keep that was sealed by request sealed, until it is lifted by
//
//	a restart        unless the hold was made to survive one; the log says so
//	people           with shares or an identity: sys/unseal
//	the operator     root, over a unix listener that says operator = true
//
// A sealed keep cannot check tokens, so a bare sys/unseal from anybody else is
// refused, and a reload of the configuration changes nothing.
//
// The hold is in memory and in an unencrypted file beside the store: the next
// start must read it before it has a key. Anybody who can write to that folder
// can delete the file, but can also replace the store and its configuration.
type holdRecord struct {
	Version int       `json:"version"` // recordVersion
	Keep    bool      `json:"keep"`    // survives restarts
	Since   time.Time `json:"since"`
}

const holdSuffix = ".held"

// holdWays says how a hold is lifted.
const holdWays = "restart the server (unless it was sealed with -keep), " +
	"or open it with recovery shares (`sealkeep operator unseal -`) or an age identity (-identity=FILE), " +
	"or unseal it as root over a listener \"unix\" that says operator = true"

var errHeld = &api.Error{Code: api.Denied, Text: "the keep was sealed by request and stays sealed: " + holdWays}

func (k *Keep) holdPath() string { return k.config.Path + holdSuffix }

// takeUpHold restores the hold that the previous process left, if there is a
// store. An unreadable file holds too: somebody wanted the keep sealed.
func (k *Keep) takeUpHold() {
	b, err := os.ReadFile(k.holdPath())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var rec holdRecord
	if err == nil {
		err = json.Unmarshal(b, &rec)
	}
	if err == nil && rec.Version != recordVersion {
		err = fmt.Errorf("record version %d, this program reads %d", rec.Version, recordVersion)
	}
	switch {
	case err != nil:
		k.held, k.keepHeld = true, true
		k.log.Error("held: the mark of a keep that was sealed by request cannot be read", "path", k.holdPath(), "error", err, "next", holdWays)
	case rec.Keep:
		k.held, k.keepHeld = true, true
		k.log.Warn("held: the keep was sealed by request, to stay so over restarts", "since", rec.Since, "next", holdWays)
	default:
		k.log.Warn("lifted by restart: the keep had been sealed by request", "since", rec.Since)
		k.removeHold()
	}
}

// writeHold writes the hold for the next start.
func (k *Keep) writeHold(keep bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %s: %w", k.holdPath(), err)
		}
	}()
	b, err := json.Marshal(holdRecord{recordVersion, keep, k.now().UTC()})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(k.holdPath()+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // already renamed if all went well
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), k.holdPath()); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(k.holdPath()))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (k *Keep) removeHold() {
	if err := os.Remove(k.holdPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.log.Error("removing the mark of a keep that was sealed by request failed: the next start may be held", "error", err, "next", "remove the file by hand")
	}
}

// liftLocked ends the hold.
func (k *Keep) liftLocked(by string) {
	if k.held {
		k.held, k.keepHeld = false, false
		k.log.Warn("the hold of a keep that was sealed by request is lifted", "lifted_by", by)
	}
	k.removeHold()
}
