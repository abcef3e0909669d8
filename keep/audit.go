package keep

import (
	"slices"

	"github.com/sealkeep/sealkeep/audit"
)

// SetAudit replaces the audit devices, as a reload of the configuration does.
// It reopens the devices that stay. If a device is invalid or cannot be opened,
// nothing changes.
func (k *Keep) SetAudit(devices []audit.Device, allowAPI bool) error {
	for _, d := range devices {
		if err := d.Check(); err != nil {
			return err
		}
	}
	k.opening.Lock() // a keep that is just opening uses the old devices
	defer k.opening.Unlock()
	k.mu.Lock()
	inForce := k.devices
	k.mu.Unlock()
	if err := audit.Probe(devices, inForce); err != nil {
		return err
	}
	if u := k.unsealed.Load(); u != nil {
		if err := u.Audit.Set(u.ctx, u.Store, devices); err != nil {
			return err
		}
	}
	k.mu.Lock()
	k.devices, k.auditAPI = slices.Clone(devices), allowAPI
	k.mu.Unlock()
	return nil
}

// ReopenAudit reopens the files of the audit devices, which may have been
// renamed. A reload does this even if the new configuration is invalid.
func (k *Keep) ReopenAudit() error {
	k.opening.Lock()
	defer k.opening.Unlock()
	k.mu.Lock()
	devices := k.devices
	k.mu.Unlock()
	if u := k.unsealed.Load(); u != nil {
		return u.Audit.Set(u.ctx, u.Store, devices)
	}
	return nil
}

// AllowAuditAPI reports whether the API may add audit devices.
func (k *Keep) AllowAuditAPI() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.auditAPI
}
