package server

import "time"

// drillStatus is the answer of sys/recovery/verify.
type drillStatus struct {
	Nonce    string     `json:"nonce"`
	Progress int        `json:"progress"`
	Required int        `json:"required"`
	Complete bool       `json:"complete"`
	Slots    []drilling `json:"slots"`
}

// drilling is what is known of one recovery slot.
type drilling struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"`
	KeyID     string    `json:"key_id"`
	Shares    int       `json:"shares,omitempty"`
	Threshold int       `json:"threshold,omitempty"`
	Verified  time.Time `json:"verified,omitzero"` // when people last showed that they can open it
}

func (k *keep) drillStatus() (out drillStatus, err error) {
	n, t, err := k.required()
	if err != nil {
		return out, err
	}
	p := k.drilling.progress()
	out = drillStatus{Nonce: p.nonce, Progress: p.have, Required: t, Slots: []drilling{}}
	for _, name := range []string{sharesSlot, ageSlot} {
		slot, err := k.recoverySlot(name)
		if err != nil {
			return out, err
		}
		if slot == nil {
			continue
		}
		d := drilling{Name: slot.Name, Type: slot.Type, KeyID: slot.KeyID, Verified: k.drilled(*slot)}
		if name == sharesSlot {
			d.Shares, d.Threshold = n, t
		}
		out.Slots = append(out.Slots, d)
	}
	return out, nil
}

func readDrill(s *Server, r *request) (answer, error) {
	out, err := r.keep.drillStatus()
	return answer{inject: true, data: out}, err
}

// writeDrill takes a share or an identity, opens the slot as it stands in the
// file when there are enough, and changes nothing but the date of the drill.
func writeDrill(s *Server, r *request) (answer, error) {
	var in offer
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	g := &r.keep.drilling
	g.mu.Lock()
	defer g.mu.Unlock()
	if in.Reset {
		g.resetLocked()
		return readDrill(s, r)
	}
	opened, err := s.proveLocked(r.keep, g, in)
	if err != nil {
		return answer{}, err
	}
	if opened == nil {
		return readDrill(s, r)
	}
	g.resetLocked()
	if err := r.keep.noteDrill(r.ctx, *opened, s.now()); err != nil {
		return answer{}, err
	}
	s.log.Info("a recovery drill: the slot opens", "slot", opened.Name, "request", r.id)
	s.rearrange()
	out, err := r.keep.drillStatus()
	out.Complete = true
	return answer{inject: true, data: out}, err
}
