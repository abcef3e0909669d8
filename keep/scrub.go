package keep

import (
	"time"
)

// While the keep is open the whole store is read and authenticated now and then,
// so that damage shows while there is still a backup of before it. It costs one
// reading of the store, about 20 µs a record, and holds one read transaction for
// as long.
const (
	scrubDelay    = time.Hour
	scrubInterval = 24 * time.Hour
)

// A scrubbed is the outcome of a scrub.
type scrubbed struct {
	at       time.Time
	findings int
}

// scrub checks the store now and then, until the keep ends.
func (k *Keep) scrub(u *Unsealed) {
	for delay := scrubDelay; sleep(u.ctx, delay, nil); delay = scrubInterval {
		began := time.Now()
		r, err := u.Store.Check(u.ctx)
		if u.ctx.Err() != nil {
			return
		}
		if err != nil {
			k.log.Error("checking the store in the background failed", "error", err)
			continue
		}
		found := len(r.Damage) + r.More
		k.scrubbed.Store(&scrubbed{at: k.now(), findings: found})
		if found == 0 {
			k.log.Info("checked the store in the background", "values", r.Values, "chunks", r.Chunks, "took", time.Since(began).Round(time.Millisecond))
			continue
		}
		k.log.Error("the store is damaged", "findings", found, "first", r.Damage[0],
			"next", "make a copy of the file, stop the keep and run `sealkeep operator storage check`; restore a backup")
	}
}
