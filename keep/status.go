package keep

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/storage"
)

// statusRoutes returns the routes that create, open and seal the keep and report its
// state.
func (k *Keep) statusRoutes() []api.Route {
	return []api.Route{
		{Path: "init", Help: "Makes the store, and hands out what is needed to recover it.", Gate: api.Open, Timeout: longTimeout,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(k.readInit).AnswersRaw(initStatus{}), api.Write: api.Do(k.writeInit).AnswersRaw(InitResponse{})}},
		{Path: "seal-status", Help: "Whether the keep is sealed, and how its slots are.", Gate: api.Open, Quiet: true,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(k.readSealStatus).AnswersRaw(sealStatus{})}},
		{Path: "seal-backend-status", Help: "How the seals are.", Gate: api.Open, Quiet: true, Ops: map[api.Op]api.Handler{api.Read: api.Do(k.readBackends).AnswersRaw(backendStatus{})}},
		{Path: "unseal", Help: "Opens the keep, with a recovery share or an identity, or through its seals.", Gate: api.Open,
			Ops: map[api.Op]api.Handler{api.Write: api.Do(k.writeUnseal).AnswersRaw(sealStatus{})}},
		{Path: "seal", Help: "Seals the keep.", Sudo: []api.Op{api.Write}, Timeout: longTimeout, Ops: map[api.Op]api.Handler{api.Write: api.Do(k.writeSeal)}},
	}
}

type initStatus struct {
	Initialized bool `json:"initialized"`
}

func (k *Keep) readInit(r *api.Request, _ *api.None) (api.Answer, error) {
	return api.Answer{Raw: &api.Raw{JSON: initStatus{k.Status().Initialized}}}, nil
}

// initInput is the HTTP form of an InitRequest.
type initInput struct {
	SecretShares      int      `json:"secret_shares"`
	SecretThreshold   int      `json:"secret_threshold"`
	PGPKeys           []string `json:"pgp_keys"`
	RecoveryShares    count    `json:"recovery_shares"`
	RecoveryThreshold count    `json:"recovery_threshold"`
	RecoveryAge       []string `json:"recovery_age_recipients"`
	RecoveryPGPKeys   []string `json:"recovery_pgp_keys"`
	RootTokenPGPKey   string   `json:"root_token_pgp_key"`
}

func (k *Keep) writeInit(r *api.Request, in *initInput) (api.Answer, error) {
	shares := defaultShares
	if k.hasRecipients() { // their identities recover the keep
		shares = 0
	}
	out, err := k.initialize(r.Context, InitRequest{
		SecretShares: in.SecretShares, SecretThreshold: in.SecretThreshold, PGPKeys: in.PGPKeys,
		RecoveryShares: in.RecoveryShares.or(shares), RecoveryThreshold: in.RecoveryThreshold.or(defaultThreshold), RecoveryAge: in.RecoveryAge,
		RecoveryPGPKeys: in.RecoveryPGPKeys, RootTokenPGPKey: in.RootTokenPGPKey,
	}, func(a *audit.Log, out *InitResponse) error {
		data, err := json.Marshal(out)
		if err != nil {
			return err
		}
		e := EntryOf(r)
		if err := a.Request(e, ""); err != nil {
			return err
		}
		return a.Response(e, audit.Outcome{Data: data, Warnings: out.Warnings})
	})
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Raw: &api.Raw{JSON: out}}, nil
}

// sealStatus has Vault's fields first, then sealkeep's own.
type sealStatus struct {
	Type         string `json:"type"` // of the slot that opened the keep, else of the best seal
	Initialized  bool   `json:"initialized"`
	Sealed       bool   `json:"sealed"`
	T            int    `json:"t"`
	N            int    `json:"n"`
	Progress     int    `json:"progress"`
	Nonce        string `json:"nonce"`
	Version      string `json:"version"`
	BuildDate    string `json:"build_date"`
	Migration    bool   `json:"migration"`
	ClusterName  string `json:"cluster_name,omitempty"`
	ClusterID    string `json:"cluster_id,omitempty"`
	RecoverySeal bool   `json:"recovery_seal"`                // true: not opened with shares; Vault's CLI asks before init
	RecoveryType string `json:"recovery_seal_type,omitempty"` // "shamir" when there are recovery shares
	StorageType  string `json:"storage_type"`

	Held        bool         `json:"held"`      // sealed by request: does not unseal automatically
	KeepHeld    bool         `json:"held_keep"` // nor after a restart
	Settled     bool         `json:"settled"`   // open, and no slot is pending or fails
	Fingerprint string       `json:"fingerprint,omitempty"`
	Slots       []SlotStatus `json:"slots"`
	Warnings    []string     `json:"warnings,omitempty"`
}

func (k *Keep) sealStatus() sealStatus {
	st := k.Status()
	out := sealStatus{
		Initialized: st.Initialized, Sealed: st.Sealed, Version: k.config.Version, BuildDate: k.config.BuildDate,
		RecoverySeal: true, StorageType: "bbolt", Held: st.Held, KeepHeld: st.KeepHeld, Settled: st.Settled, Fingerprint: st.Fingerprint, Slots: st.Slots,
	}
	if !st.Sealed {
		out.ClusterName, out.ClusterID = st.ClusterName(), st.StoreID
	}
	if st.Unused {
		out.Warnings = append(out.Warnings, "no token has been used since init: log in once with the root token that init printed, and this line disappears; if nobody received the answer of init, "+
			"nothing is in this keep yet: stop it, move its store file away, start it, and run `sealkeep operator init` again")
	}
	if st.Damage != nil {
		out.Warnings = append(out.Warnings, st.Damage.Error(), damageHint)
	}
	k.mu.Lock()
	out.N, out.T = k.shares.n, k.shares.t
	k.mu.Unlock()
	if out.N > 0 {
		out.RecoveryType = "shamir"
	}
	if p := k.unsealing.progress(); st.Sealed {
		if out.Progress, out.Nonce = p.have, p.nonce; p.k > 0 { // two sets may be open
			out.N, out.T = p.n, p.k
		}
	}
	if len(st.Slots) > 0 {
		out.Type = st.Slots[0].Type
	}
	for _, sl := range st.Slots {
		switch {
		case sl.Opener && !strings.HasPrefix(sl.Name, recoveryPrefix):
			out.Type = sl.Type
		case !sl.Since.IsZero():
			out.Warnings = append(out.Warnings, sl.Warning)
		case sl.State == SlotQuarantined:
			out.Warnings = append(out.Warnings, "slot "+strconv.Quote(sl.Name)+" in the file was not made by this store")
		}
	}
	return out
}

func (k *Keep) readSealStatus(r *api.Request, _ *api.None) (api.Answer, error) {
	return api.Answer{Raw: &api.Raw{JSON: k.sealStatus()}}, nil
}

type unsealInput struct {
	offer
	Migrate bool `json:"migrate"`
}

func (k *Keep) writeUnseal(r *api.Request, in *unsealInput) (api.Answer, error) {
	switch {
	case in.Migrate:
		return api.Answer{}, invalid(migrateAnswer)
	case in.Reset:
		k.unsealing.reset()
		return api.Answer{Raw: &api.Raw{JSON: k.sealStatus()}}, nil
	}
	var warnings []string
	var err error
	if in.Key != "" || in.Identity != "" {
		warnings, err = k.openByPeople(in.offer)
	} else {
		err = k.unseal(r.Context, r.Frame.Operator())
	}
	if err != nil {
		return api.Answer{}, err
	}
	out := k.sealStatus()
	out.Warnings = append(out.Warnings, warnings...)
	return api.Answer{Raw: &api.Raw{JSON: out}}, nil
}

type sealInput struct {
	Keep bool `json:"keep"` // survives restarts
}

func (k *Keep) writeSeal(r *api.Request, in *sealInput) (api.Answer, error) {
	if !in.Keep {
		k.Seal()
		return api.Answer{}, nil
	}
	if err := k.SealAndKeep(); err != nil {
		k.log.Error("the keep is sealed, but a restart will open it again", "error", err, "request", r.ID)
		return api.Answer{}, &api.Error{Code: api.Failed, Text: "the keep is sealed, but that could not be written down, and a restart will open it again: stop the server, or disable the key in the key service; the server's log says why"}
	}
	return api.Answer{}, nil
}

type backendStatus struct {
	Healthy        bool      `json:"healthy"`
	UnhealthySince string    `json:"unhealthy_since,omitempty"`
	FullyWrapped   bool      `json:"fully_wrapped"`
	Backends       []backend `json:"backends"`
}

type backend struct {
	Name           string `json:"name"`
	Healthy        bool   `json:"healthy"`
	Configured     bool   `json:"configured"`
	Disabled       bool   `json:"disabled"`
	UnhealthySince string `json:"unhealthy_since,omitempty"`
}

// readBackends reports the health of the seals, as Vault does: a slot is healthy
// unless its last attempt failed.
func (k *Keep) readBackends(r *api.Request, _ *api.None) (api.Answer, error) {
	out := backendStatus{Healthy: true, FullyWrapped: true, Backends: []backend{}}
	var since time.Time
	for _, sl := range k.Status().Slots {
		if isRecovery(storage.Slot{Name: sl.Name, Type: sl.Type}) {
			continue // not a backend: people open it
		}
		b := backend{Name: sl.Name, Configured: sl.Priority > 0, Disabled: sl.Disabled}
		b.Healthy = b.Configured && sl.FailedSince.IsZero()
		if !sl.FailedSince.IsZero() {
			b.UnhealthySince = sl.FailedSince.UTC().Format(time.RFC3339)
			if since.IsZero() || sl.FailedSince.Before(since) {
				since, out.UnhealthySince = sl.FailedSince, b.UnhealthySince
			}
		}
		if b.Configured && !b.Disabled {
			out.Healthy = out.Healthy && b.Healthy
			moved := sl.KeyInForce != "" && sl.KeyInForce != sl.KeyID
			out.FullyWrapped = out.FullyWrapped && (sl.State != SlotPending || sl.KeyID != "" && !moved)
		}
		out.Backends = append(out.Backends, b)
	}
	out.FullyWrapped = out.FullyWrapped && len(out.Backends) > 0
	return api.Answer{Raw: &api.Raw{JSON: out}}, nil
}

// ClusterName returns a name for Vault's field cluster_name, derived from the
// store's UUID.
func (st Status) ClusterName() string { return "sealkeep-" + st.StoreID[:min(8, len(st.StoreID))] }
