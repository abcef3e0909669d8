package keep

import (
	"cmp"
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/recovery"
)

// drillStatus is the answer of sys/recovery/verify.
type drillStatus struct {
	Nonce    string     `json:"nonce"`
	Progress int        `json:"progress"`
	Required int        `json:"required"`
	Complete bool       `json:"complete"`
	Slots    []drilling `json:"slots"`
}

// drilling describes one recovery slot.
type drilling struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"`
	KeyID     string    `json:"key_id"`
	Shares    int       `json:"shares,omitempty"`
	Threshold int       `json:"threshold,omitempty"`
	Set       string    `json:"set,omitempty"`     // ID of the shares
	Verified  time.Time `json:"verified,omitzero"` // when people last proved that they can open it
	Since     time.Time `json:"since,omitzero"`    // when it was made to replace another slot
}

func (u *Unsealed) drillStatus() (out drillStatus, err error) {
	_, t, err := u.required()
	if err != nil {
		return out, err
	}
	slots, _, err := u.Store.TrustedSlots()
	if err != nil {
		return out, fmt.Errorf("reading the slots: %w", err)
	}
	p := u.drilling.progress()
	out = drillStatus{Nonce: p.nonce, Progress: p.have, Required: cmp.Or(p.k, t), Slots: []drilling{}}
	for _, name := range []string{sharesSlot, newSharesName, ageSlot, newAgeName} {
		slot := recoverySlot(slots, name)
		if slot == nil {
			continue
		}
		d := drilling{Name: slot.Name, Type: slot.Type, KeyID: slot.KeyID, Verified: u.drilled(*slot), Since: slot.Since}
		if slot.Type == recovery.Shares {
			if _, d.Shares, d.Threshold, err = recovery.Recipients(slot.Lock); err == nil {
				d.Set, err = recovery.SetID(slot.Lock)
			}
			if err != nil {
				return out, fmt.Errorf("slot %q: %w", slot.Name, err)
			}
		}
		out.Slots = append(out.Slots, d)
	}
	return out, nil
}

func (k *Keep) readDrill(r *api.Request, _ *api.None) (api.Answer, error) {
	return showDrill(Of(r))
}

func showDrill(u *Unsealed) (api.Answer, error) {
	out, err := u.drillStatus()
	return api.Answer{Inject: true, Data: out}, err
}

// writeDrill takes a share or an identity, opens the slot as stored once there
// are enough, and records the date. It changes nothing else, unless the drill
// proves that people hold new shares or identities; see [Keep.settle].
func (k *Keep) writeDrill(r *api.Request, in *offer) (api.Answer, error) {
	u := Of(r)
	g := &u.drilling
	g.mu.Lock()
	defer g.mu.Unlock()
	if in.Reset {
		g.resetLocked()
		return showDrill(u)
	}
	opened, err := k.proveLocked(u, g, *in, true)
	if err != nil {
		return api.Answer{}, err
	}
	if opened == nil {
		return showDrill(u)
	}
	g.resetLocked()
	k.log.Info("a recovery drill: the slot opens", "slot", opened.Name, "request", r.ID)
	out, err := u.drillStatus()
	out.Complete = true
	return api.Answer{Inject: true, Data: out, Warnings: opened.warnings()}, err
}
