package sys

import (
	"strconv"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
)

// healthRoutes tell load balancers and clients how the keep is.
func (s *System) healthRoutes() []api.Route {
	health := api.Do(s.readHealth).AnswersRaw(s.health(keep.Status{}, time.Time{}))
	return []api.Route{
		{Path: "health", Help: "How the keep is, as a status for load balancers.", Gate: api.Open, Quiet: true,
			Ops: map[api.Op]api.Handler{api.Read: health, api.Head: health}},
		{Path: "leader", Help: "That there is one server.", Gate: api.Open, Quiet: true, Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readLeader).AnswersRaw(s.leader())}},
	}
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

func (s *System) readHealth(r *api.Request, in *healthInput) (api.Answer, error) {
	codes, err := in.codes()
	if err != nil {
		return api.Answer{}, err
	}
	st := s.keep.Status()
	name := "activecode"
	switch {
	case !st.Initialized:
		name = "uninitcode"
	case st.Sealed:
		name = "sealedcode"
	}
	return api.Answer{Status: codes[name], Raw: &api.Raw{JSON: s.health(st, r.Frame.Time())}}, nil
}

func (s *System) health(st keep.Status, now time.Time) map[string]any {
	body := map[string]any{
		"initialized":                       st.Initialized,
		"sealed":                            st.Sealed,
		"standby":                           false,
		"performance_standby":               false,
		"replication_performance_mode":      "disabled",
		"replication_dr_mode":               "disabled",
		"server_time_utc":                   now.Unix(),
		"version":                           s.version,
		"enterprise":                        false,
		"echo_duration_ms":                  0,
		"clock_skew_ms":                     0,
		"replication_primary_canary_age_ms": 0,
	}
	if !st.Sealed {
		body["cluster_name"], body["cluster_id"] = st.ClusterName(), st.StoreID
	}
	return body
}

func (s *System) readLeader(r *api.Request, _ *api.None) (api.Answer, error) {
	return api.Answer{Raw: &api.Raw{JSON: s.leader()}}, nil
}

func (s *System) leader() map[string]any {
	return map[string]any{
		"ha_enabled":                          false,
		"is_self":                             false,
		"active_time":                         time.Time{},
		"leader_address":                      s.apiAddr,
		"leader_cluster_address":              "",
		"performance_standby":                 false,
		"performance_standby_last_remote_wal": 0,
	}
}
