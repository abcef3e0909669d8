package audit

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// First records the creation of a store, inside the transaction that creates it. It
// opens the devices, calls record, closes the devices and stores the last line of
// each log, so that no store is created without an audit record. Without devices it
// does not call record.
func First(tx *storage.Tx, devices []Device, now func() time.Time, log *slog.Logger, record func(*Log) error) (err error) {
	if len(devices) == 0 {
		return nil
	}
	l := newLog(now, log)
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
		d := l.unopened(conf, opts, salt, head)
		open = append(open, d)
		d.reopen(l) // an error shows up when the device has to write
	}
	l.devices.Store(&open)
	if err := record(l); err != nil {
		return err
	}
	for _, d := range open {
		if d.out != nil && d.err == nil {
			if err := d.out.sync(); err != nil {
				return fmt.Errorf("flushing the audit log %s to its disk: %w", d.conf.Path, err)
			}
		}
		if err := writeHead(tx, d.conf.Path, d.head); err != nil {
			return err
		}
	}
	return nil
}
