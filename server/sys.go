package server

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/storage"
)

// sysRoutes is every path that is not below a mount. Of two patterns that fit,
// the one further up counts.
var sysRoutes = []oldRoute{
	{path: "sys/init", gate: open, body: bodySmall, timeout: timeoutLong, on: [ops]handler{opRead: readInit, opWrite: writeInit}},
	{path: "sys/health", quiet: true, gate: open, on: [ops]handler{opRead: readHealth, opHead: readHealth}},
	{path: "sys/seal-status", quiet: true, gate: open, on: [ops]handler{opRead: readSealStatus}},
	{path: "sys/seal-backend-status", quiet: true, gate: open, on: [ops]handler{opRead: readBackends}},
	{path: "sys/unseal", gate: open, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: writeUnseal}},
	{path: "sys/recovery/verify", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readDrill, opWrite: writeDrill}},
	{path: "sys/rotate/recovery/init", gate: authenticated, sudo: []api.Op{opWrite, opDelete}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readRekey, opWrite: writeRekeyInit, opDelete: deleteRekey}},
	{path: "sys/rotate/recovery/update", gate: authenticated, sudo: []api.Op{opWrite}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: writeRekeyUpdate}},
	{path: "sys/rotate/recovery/verify", gate: authenticated, sudo: []api.Op{opWrite, opDelete}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readRekeyVerify, opWrite: writeRekeyVerify, opDelete: deleteRekeyVerify}},
	{path: "sys/rekey-recovery-key/init", gate: authenticated, sudo: []api.Op{opWrite, opDelete}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readRekey, opWrite: writeRekeyInit, opDelete: deleteRekey}},
	{path: "sys/rekey-recovery-key/update", gate: authenticated, sudo: []api.Op{opWrite}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: writeRekeyUpdate}},
	{path: "sys/rekey-recovery-key/verify", gate: authenticated, sudo: []api.Op{opWrite, opDelete}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readRekeyVerify, opWrite: writeRekeyVerify, opDelete: deleteRekeyVerify}},
	{path: "sys/rekey/init", gate: authenticated, sudo: []api.Op{opDelete}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opDelete: deleteRekey}}, // where Vault's client calls off the above
	{path: "sys/generate-root/attempt", gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readGenerateRoot, opWrite: beginGenerateRoot, opDelete: cancelGenerateRoot}},
	{path: "sys/generate-root/update", gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: updateGenerateRoot}},
	{path: "sys/generate-root-token/attempt", gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readGenerateRoot, opWrite: beginGenerateRoot, opDelete: cancelGenerateRoot}},
	{path: "sys/generate-root-token/update", gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: updateGenerateRoot}},
	{path: "sys/decode-token", gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: writeDecodeToken}},
	{path: metricsPath, quiet: true, gate: authenticated, on: [ops]handler{opRead: readMetrics}},
	{path: "sys/leader", quiet: true, gate: open, on: [ops]handler{opRead: readLeader}},
	{path: "sys/seal", gate: authenticated, sudo: []api.Op{opWrite}, body: bodySmall, timeout: timeoutLong, on: [ops]handler{opWrite: writeSeal}},
	{path: "sys/storage/backup", gate: authenticated, sudo: []api.Op{opRead}, on: [ops]handler{opRead: readBackup}},
	{path: "sys/key-status", gate: authenticated, on: [ops]handler{opRead: readKeyStatus}},
	{path: "sys/rotate", gate: authenticated, sudo: []api.Op{opWrite}, body: bodySmall, timeout: timeoutLong, on: [ops]handler{opWrite: writeRotate}},
	{path: "sys/rotate/keyring", gate: authenticated, sudo: []api.Op{opWrite}, body: bodySmall, timeout: timeoutLong, on: [ops]handler{opWrite: writeRotate}},
	{path: "sys/rotate/config", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readRotateConfig, opWrite: writeRotateConfig}},
	{path: "sys/rotate/keyring/config", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readRotateConfig, opWrite: writeRotateConfig}},
	{path: "sys/rotate/root", gate: authenticated, sudo: []api.Op{opWrite}, body: bodySmall, timeout: timeoutLong, on: [ops]handler{opWrite: writeRotateRoot}},
	{path: "sys/slots", gate: authenticated, on: [ops]handler{opRead: listSlots, opList: listSlots}},
	{path: "sys/slots/*/verify", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: verifySlot}},
	{path: "sys/slots/*", gate: authenticated, sudo: []api.Op{opWrite, opDelete}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readSlot, opWrite: addSlot, opDelete: removeSlot}},
	{path: "sys/remount", gate: authenticated, sudo: []api.Op{opWrite}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: remount}},
	{path: "sys/remount/status/*", gate: authenticated, on: [ops]handler{opRead: remountStatus}},
	{path: "sys/mounts", gate: authenticated, on: [ops]handler{opRead: listMounts}},
	{path: "sys/mounts/*/tune", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readTune, opWrite: writeTune}},
	{path: "sys/mounts/*", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readMount, opWrite: enableMount, opDelete: disableMount}},
	{path: "sys/internal/ui/mounts", gate: unsealed, on: [ops]handler{opRead: uiMounts}},
	{path: "sys/internal/ui/mounts/*", gate: unsealed, on: [ops]handler{opRead: uiMount}},
}

func readInit(s *Server, r *request) (answer, error) {
	return answer{raw: map[string]bool{"initialized": s.Status().Initialized}}, nil
}

func writeInit(s *Server, r *request) (answer, error) {
	in := InitRequest{RecoveryShares: defaultShares, RecoveryThreshold: defaultThreshold}
	if s.hasRecipients() { // their identities recover
		in.RecoveryShares = 0
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	out, err := s.initialize(r.Context, in, func(a *audit.Log, out *InitResponse) error {
		data, err := json.Marshal(out)
		if err != nil {
			return err
		}
		e := s.auditEntry(r, nil)
		if err := a.Request(e, ""); err != nil {
			return err
		}
		return a.Response(e, audit.Outcome{Data: data, Warnings: out.Warnings})
	})
	if err != nil {
		return answer{}, err
	}
	return answer{raw: out}, nil
}

// healthCodes are the parameters of sys/health that choose a status, with
// Vault's defaults. All are checked; those of standbys never count here.
var healthCodes = map[string]int{
	"activecode": 200, "standbycode": 429, "drsecondarycode": 472, "performancestandbycode": 473,
	"sealedcode": 503, "uninitcode": 501, "removedcode": 530, "haunhealthycode": 474,
}

func readHealth(s *Server, r *request) (answer, error) {
	for _, name := range []string{"standbyok", "perfstandbyok"} {
		if v := r.Query.Get(name); v != "" {
			if _, err := strconv.ParseBool(v); err != nil {
				return answer{}, invalid("bad value for %s parameter: %q is not a boolean", name, v)
			}
		}
	}
	for name := range healthCodes {
		if _, err := healthCode(r.Query, name); err != nil {
			return answer{}, err
		}
	}
	st := s.Status()
	name := "activecode"
	switch {
	case !st.Initialized:
		name = "uninitcode"
	case st.Sealed:
		name = "sealedcode"
	}
	code, err := healthCode(r.Query, name)
	if err != nil {
		return answer{}, err
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
	return answer{status: code, raw: body}, nil
}

func healthCode(q url.Values, name string) (int, error) {
	v, given := q[name]
	if !given {
		return healthCodes[name], nil
	}
	code, err := strconv.Atoi(v[0])
	if err != nil || code < 200 || code > 599 {
		return 0, invalid("bad value for %s parameter: %q is not a status code from 200 to 599", name, v[0])
	}
	return code, nil
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

func readSealStatus(s *Server, r *request) (answer, error) {
	return answer{raw: s.sealStatus()}, nil
}

func writeUnseal(s *Server, r *request) (answer, error) {
	var in struct {
		offer
		Migrate bool `json:"migrate"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	switch {
	case in.Migrate:
		return answer{}, invalid(migrateAnswer)
	case in.Reset:
		s.unsealing.reset()
		return readSealStatus(s, r)
	}
	var warnings []string
	var err error
	if in.Key != "" || in.Identity != "" {
		warnings, err = s.openByPeople(in.offer)
	} else {
		err = s.unseal(r.Context, r.operator())
	}
	if err != nil {
		return answer{}, err
	}
	out := s.sealStatus()
	out.Warnings = append(out.Warnings, warnings...)
	return answer{raw: out}, nil
}

func writeSeal(s *Server, r *request) (answer, error) {
	var in struct {
		Keep bool `json:"keep"` // over restarts
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	if !in.Keep {
		s.Seal()
		return answer{}, nil
	}
	if err := s.SealAndKeep(); err != nil {
		s.log.Error("the keep is sealed, but a restart will open it again", "error", err, "request", r.ID)
		return answer{}, &api.Error{Code: api.Failed, Text: "the keep is sealed, but that could not be written down, and a restart will open it again: stop the server, or disable the key in the key service; the server's log says why"}
	}
	return answer{}, nil
}

// readBackends answers Vault's question after the health of the seals: a slot
// is healthy until its last attempt failed.
func readBackends(s *Server, r *request) (answer, error) {
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
	return answer{raw: out}, nil
}

func readLeader(s *Server, r *request) (answer, error) {
	return answer{raw: map[string]any{
		"ha_enabled":                          false,
		"is_self":                             false,
		"active_time":                         time.Time{},
		"leader_address":                      s.config.APIAddr,
		"leader_cluster_address":              "",
		"performance_standby":                 false,
		"performance_standby_last_remote_wal": 0,
	}}, nil
}

func readMetrics(s *Server, r *request) (answer, error) {
	text, err := s.metrics.text()
	if err != nil {
		return answer{}, err
	}
	return answer{text: text, kind: "text/plain; version=0.0.4; charset=utf-8"}, nil
}
