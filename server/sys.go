package server

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/storage"
)

// sysRoutes are the API of the server itself.
func (s *Server) sysRoutes() []api.Route {
	return []api.Route{
		{Path: "sys/init", Help: "Makes the store, and hands out what is needed to recover it.", Gate: api.Open, Timeout: timeoutLong,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readInit), api.Write: api.Do(s.writeInit)}},
		{Path: "sys/health", Help: "How the keep is, as a status for load balancers.", Gate: api.Open, Quiet: true,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readHealth), api.Head: api.Do(s.readHealth)}},
		{Path: "sys/seal-status", Help: "Whether the keep is sealed, and how its slots are.", Gate: api.Open, Quiet: true,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readSealStatus)}},
		{Path: "sys/seal-backend-status", Help: "How the seals are.", Gate: api.Open, Quiet: true, Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readBackends)}},
		{Path: "sys/unseal", Help: "Opens the keep, with a recovery share or an identity, or through its seals.", Gate: api.Open,
			Ops: map[api.Op]api.Handler{api.Write: api.Do(s.writeUnseal)}},
		{Path: "sys/seal", Help: "Seals the keep.", Sudo: []api.Op{api.Write}, Timeout: timeoutLong, Ops: map[api.Op]api.Handler{api.Write: api.Do(s.writeSeal)}},
		{Path: "sys/leader", Help: "That there is one server.", Gate: api.Open, Quiet: true, Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readLeader)}},
		{Path: metricsPath, Help: "The metrics, as Prometheus reads them.", Quiet: true, Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readMetrics)}},
		{Path: "sys/storage/backup", Help: "Makes a backup of the store.", Sudo: []api.Op{api.Read}, Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readBackup)}},
	}
}

func (s *Server) readInit(r *api.Request, _ *api.None) (api.Answer, error) {
	return api.Answer{Raw: &api.Raw{JSON: map[string]bool{"initialized": s.Status().Initialized}}}, nil
}

// initInput is an InitRequest as it comes over HTTP.
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

func (s *Server) writeInit(r *api.Request, in *initInput) (api.Answer, error) {
	shares := defaultShares
	if s.hasRecipients() { // their identities recover
		shares = 0
	}
	out, err := s.initialize(r.Context, InitRequest{
		SecretShares: in.SecretShares, SecretThreshold: in.SecretThreshold, PGPKeys: in.PGPKeys,
		RecoveryShares: in.RecoveryShares.or(shares), RecoveryThreshold: in.RecoveryThreshold.or(defaultThreshold), RecoveryAge: in.RecoveryAge,
		RecoveryPGPKeys: in.RecoveryPGPKeys, RootTokenPGPKey: in.RootTokenPGPKey,
	}, func(a *audit.Log, out *InitResponse) error {
		data, err := json.Marshal(out)
		if err != nil {
			return err
		}
		e := entryOf(r)
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

// healthInput chooses a status, of which the store's state says which counts. All are
// checked; those of standbys never count here.
type healthInput struct {
	StandbyOK              *string `json:"standbyok"`
	PerformanceStandbyOK   *string `json:"perfstandbyok"`
	ActiveCode             *string `json:"activecode"`
	StandbyCode            *string `json:"standbycode"`
	DRSecondaryCode        *string `json:"drsecondarycode"`
	PerformanceStandbyCode *string `json:"performancestandbycode"`
	SealedCode             *string `json:"sealedcode"`
	UninitCode             *string `json:"uninitcode"`
	RemovedCode            *string `json:"removedcode"`
	HAUnhealthyCode        *string `json:"haunhealthycode"`
}

// codes are the statuses by parameter, Vault's where none is chosen.
func (in *healthInput) codes() (map[string]int, error) {
	for name, v := range map[string]*string{"standbyok": in.StandbyOK, "perfstandbyok": in.PerformanceStandbyOK} {
		if v != nil && *v != "" {
			if _, err := strconv.ParseBool(*v); err != nil {
				return nil, invalid("bad value for %s parameter: %q is not a boolean", name, *v)
			}
		}
	}
	codes := map[string]int{
		"activecode": 200, "standbycode": 429, "drsecondarycode": 472, "performancestandbycode": 473,
		"sealedcode": 503, "uninitcode": 501, "removedcode": 530, "haunhealthycode": 474,
	}
	for name, v := range map[string]*string{
		"activecode": in.ActiveCode, "standbycode": in.StandbyCode, "drsecondarycode": in.DRSecondaryCode, "performancestandbycode": in.PerformanceStandbyCode,
		"sealedcode": in.SealedCode, "uninitcode": in.UninitCode, "removedcode": in.RemovedCode, "haunhealthycode": in.HAUnhealthyCode,
	} {
		if v != nil {
			code, err := strconv.Atoi(*v)
			if err != nil || code < 200 || code > 599 {
				return nil, invalid("bad value for %s parameter: %q is not a status code from 200 to 599", name, *v)
			}
			codes[name] = code
		}
	}
	return codes, nil
}

func (s *Server) readHealth(_ *api.Request, in *healthInput) (api.Answer, error) {
	codes, err := in.codes()
	if err != nil {
		return api.Answer{}, err
	}
	st := s.Status()
	name := "activecode"
	switch {
	case !st.Initialized:
		name = "uninitcode"
	case st.Sealed:
		name = "sealedcode"
	}
	body := map[string]any{
		"initialized":                       st.Initialized,
		"sealed":                            st.Sealed,
		"standby":                           false,
		"performance_standby":               false,
		"replication_performance_mode":      "disabled",
		"replication_dr_mode":               "disabled",
		"server_time_utc":                   s.now().Unix(),
		"version":                           s.config.Version,
		"enterprise":                        false,
		"echo_duration_ms":                  0,
		"clock_skew_ms":                     0,
		"replication_primary_canary_age_ms": 0,
	}
	if !st.Sealed {
		body["cluster_name"], body["cluster_id"] = clusterName(st.StoreID), st.StoreID
	}
	return api.Answer{Status: codes[name], Raw: &api.Raw{JSON: body}}, nil
}

func clusterName(id string) string { return "sealkeep-" + id[:min(8, len(id))] }

// sealStatus has Vault's fields first, then ours.
type sealStatus struct {
	Type         string `json:"type"` // of the slot that opened, else of the best seal
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

	Held        bool         `json:"held"`      // sealed by request: does not open by itself
	KeepHeld    bool         `json:"held_keep"` // nor after a restart
	Settled     bool         `json:"settled"`   // open, and no slot is pending or fails
	Fingerprint string       `json:"fingerprint,omitempty"`
	Slots       []SlotStatus `json:"slots"`
	Warnings    []string     `json:"warnings,omitempty"`
}

func (s *Server) sealStatus() sealStatus {
	st := s.Status()
	out := sealStatus{
		Initialized: st.Initialized, Sealed: st.Sealed, Version: s.config.Version, BuildDate: s.config.BuildDate,
		RecoverySeal: true, StorageType: "bbolt", Held: st.Held, KeepHeld: st.KeepHeld, Settled: st.Settled, Fingerprint: st.Fingerprint, Slots: st.Slots,
	}
	if !st.Sealed {
		out.ClusterName, out.ClusterID = clusterName(st.StoreID), st.StoreID
	}
	if st.Unused {
		out.Warnings = append(out.Warnings, "no token has been used since init: log in once with the root token that init printed, and this line goes; if nobody has got the answer of init, "+
			"nothing is in this keep yet: stop it, move the file of its store away, start it, and run `sealkeep operator init` again")
	}
	if st.Damage != nil {
		out.Warnings = append(out.Warnings, st.Damage.Error(), damageHint)
	}
	s.mu.Lock()
	out.N, out.T = s.shares.n, s.shares.t
	s.mu.Unlock()
	if out.N > 0 {
		out.RecoveryType = "shamir"
	}
	if p := s.unsealing.progress(); st.Sealed {
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

func (s *Server) readSealStatus(r *api.Request, _ *api.None) (api.Answer, error) {
	return api.Answer{Raw: &api.Raw{JSON: s.sealStatus()}}, nil
}

type unsealInput struct {
	offer
	Migrate bool `json:"migrate"`
}

func (s *Server) writeUnseal(r *api.Request, in *unsealInput) (api.Answer, error) {
	switch {
	case in.Migrate:
		return api.Answer{}, invalid(migrateAnswer)
	case in.Reset:
		s.unsealing.reset()
		return api.Answer{Raw: &api.Raw{JSON: s.sealStatus()}}, nil
	}
	var warnings []string
	var err error
	if in.Key != "" || in.Identity != "" {
		warnings, err = s.openByPeople(in.offer)
	} else {
		err = s.unseal(r.Context, r.Frame.Operator())
	}
	if err != nil {
		return api.Answer{}, err
	}
	out := s.sealStatus()
	out.Warnings = append(out.Warnings, warnings...)
	return api.Answer{Raw: &api.Raw{JSON: out}}, nil
}

type sealInput struct {
	Keep bool `json:"keep"` // over restarts
}

func (s *Server) writeSeal(r *api.Request, in *sealInput) (api.Answer, error) {
	if !in.Keep {
		s.Seal()
		return api.Answer{}, nil
	}
	if err := s.SealAndKeep(); err != nil {
		s.log.Error("the keep is sealed, but a restart will open it again", "error", err, "request", r.ID)
		return api.Answer{}, &api.Error{Code: api.Failed, Text: "the keep is sealed, but that could not be written down, and a restart will open it again: stop the server, or disable the key in the key service; the server's log says why"}
	}
	return api.Answer{}, nil
}

// readBackends answers Vault's question after the health of the seals: a slot
// is healthy until its last attempt failed.
func (s *Server) readBackends(r *api.Request, _ *api.None) (api.Answer, error) {
	type backend struct {
		Name           string `json:"name"`
		Healthy        bool   `json:"healthy"`
		Configured     bool   `json:"configured"`
		Disabled       bool   `json:"disabled"`
		UnhealthySince string `json:"unhealthy_since,omitempty"`
	}
	out := struct {
		Healthy        bool      `json:"healthy"`
		UnhealthySince string    `json:"unhealthy_since,omitempty"`
		FullyWrapped   bool      `json:"fully_wrapped"`
		Backends       []backend `json:"backends"`
	}{Healthy: true, FullyWrapped: true, Backends: []backend{}}
	var since time.Time
	for _, sl := range s.Status().Slots {
		if isRecovery(storage.Slot{Name: sl.Name, Type: sl.Type}) {
			continue // no backend: people open it
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

func (s *Server) readLeader(r *api.Request, _ *api.None) (api.Answer, error) {
	return api.Answer{Raw: &api.Raw{JSON: map[string]any{
		"ha_enabled":                          false,
		"is_self":                             false,
		"active_time":                         time.Time{},
		"leader_address":                      s.config.APIAddr,
		"leader_cluster_address":              "",
		"performance_standby":                 false,
		"performance_standby_last_remote_wal": 0,
	}}}, nil
}

func (s *Server) readMetrics(r *api.Request, _ *api.None) (api.Answer, error) {
	text, err := s.metrics.text()
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Raw: &api.Raw{Type: "text/plain; version=0.0.4; charset=utf-8", Bytes: text}}, nil
}
