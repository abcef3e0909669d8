package keep

import (
	"time"
)

// While the keep is open, it reads and authenticates the whole store now and then,
// so that damage is noticed while a backup from before still exists. A scrub takes
// about 20 µs a record, and holds one read transaction all the while.
const (
	scrubDelay    = time.Hour
	scrubInterval = 24 * time.Hour
)

// scrubbed is the outcome of a scrub.
type scrubbed struct {
	at       time.Time
	findings int
}

// scrub checks the store now and then, until the keep is sealed.
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
