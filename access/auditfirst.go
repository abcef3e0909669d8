package access

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// AuditFirst records what makes a store, in the transaction that makes it: it
// opens the devices, calls record, closes them, and keeps in the transaction how
// far the logs have come. So nothing is made that no device knows of. Without
// devices record is not called.
func AuditFirst(tx *storage.Tx, devices []Device, now func() time.Time, log *slog.Logger, record func(*Audit) error) (err error) {
	if len(devices) == 0 {
		return nil
	}
	a := &Audit{log: log, now: now, stdout: newStream(os.Stdout, auditWait), wake: make(chan struct{}, 1)}
	var open []*device
	defer func() {
		for _, d := range open {
			d.close()
		}
	}()
	for _, conf := range devices {
		opts, err := conf.parse()
		if err != nil {
			return err
		}
		if err := makeSalt(tx, conf.Path); err != nil {
			return err
		}
		salt, head, err := readState(tx, conf.Path)
		if err != nil {
			return err
		}
		d := a.unopened(conf, opts, salt, head)
		open = append(open, d)
		d.reopen(a) // what is wrong with it shows when it is to write
	}
	a.devices.Store(&open)
	if err := record(a); err != nil {
		return err
	}
	for _, d := range open {
		if d.out != nil && d.err == nil {
			if err := d.out.sync(); err != nil {
				return fmt.Errorf("flushing the audit log %s to its disk: %w", d.conf.Path, err)
			}
		}
		if err := putHead(tx, d.conf.Path, d.head); err != nil {
			return err
		}
	}
	return nil
}
