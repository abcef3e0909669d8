package keep

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics holds the metrics of one keep. Labels come from the configured seals and
// the lists of classes, so their number is bounded.
type metrics struct {
	attempts *prometheus.CounterVec
	rewraps  *prometheus.CounterVec
	services *prometheus.HistogramVec
	shares   *prometheus.CounterVec
	withheld *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealkeep_unseal_attempts_total",
			Help: "Attempts to open the keep with a slot, by outcome: ok, or the class of the failure.",
		}, []string{"slot", "class"}),
		rewraps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealkeep_slot_rewraps_total",
			Help: "Times that the root key was wrapped anew for a slot, because its key service had another key.",
		}, []string{"slot"}),
		services: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sealkeep_slot_operation_seconds",
			Help:    "Time that the key service of a slot took: unwrap, wrap (which opens again), key_id. Failures count, too.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"slot", "operation"}),
		shares: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealkeep_recovery_shares_total",
			Help: "Recovery shares and identities that were given, by result.",
		}, []string{"result"}),
		withheld: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealkeep_audit_refused_total",
			Help: "Requests that were not carried out, and answers that were not sent (record), because no audit device could record them.",
		}, []string{"record"}),
	}
}

// operation times a call to a slot's key service. The call ends with done.
func (m *metrics) operation(slot, operation string) (done func()) {
	began := time.Now()
	return func() { m.services.WithLabelValues(slot, operation).Observe(time.Since(began).Seconds()) }
}

// Withheld counts an audit record that could not be written. A request that cannot be
// recorded is not carried out, and a response that cannot be recorded is not sent.
func (k *Keep) Withheld(record string) { k.metrics.withheld.WithLabelValues(record).Inc() }

// Collector gathers the metrics of the keep.
func (k *Keep) Collector() prometheus.Collector { return collector{k} }

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.attempts, m.rewraps, m.services, m.shares, m.withheld}
}

// A collector reads the keep's state when metrics are asked for.
type collector struct{ k *Keep }

var (
	descInitialized = prometheus.NewDesc("sealkeep_initialized", "1 when there is a store.", nil, nil)
	descSealed      = prometheus.NewDesc("sealkeep_sealed", "1 while sealed.", nil, nil)
	descHeld        = prometheus.NewDesc("sealkeep_held", "1 while sealed by request: the keep does not open by itself.", nil, nil)
	descSlot        = prometheus.NewDesc("sealkeep_slot_healthy",
		"0 when the slot's last attempt failed (class says why) or it cannot be tried (class is its state).", []string{"slot", "type", "class"}, nil)
	descSlotLast   = prometheus.NewDesc("sealkeep_slot_last_attempt_timestamp_seconds", "When the slot was last tried.", []string{"slot", "type"}, nil)
	descSlotOpened = prometheus.NewDesc("sealkeep_slot_last_opened_timestamp_seconds", "When the slot last opened.", []string{"slot", "type"}, nil)
	descTokenTTL   = prometheus.NewDesc("sealkeep_slot_token_ttl_seconds", "How long the token of the slot's seal lives, as it was last looked up.", []string{"slot", "type"}, nil)
	descTerms      = prometheus.NewDesc("sealkeep_barrier_terms", "Keys of the barrier; 1 when all is encrypted with the newest.", nil, nil)
	descTerm       = prometheus.NewDesc("sealkeep_barrier_term_installed_timestamp_seconds", "When the newest key of the barrier was made.", nil, nil)
	descScrubbed   = prometheus.NewDesc("sealkeep_storage_last_check_timestamp_seconds", "When the store was last checked in the background.", nil, nil)
	descDamage     = prometheus.NewDesc("sealkeep_storage_damage", "What the last check in the background found; 1 for a store that cannot be opened.", nil, nil)
	descCommits    = prometheus.NewDesc("sealkeep_storage_commits_total", "Commits of the store.", nil, nil)
	descUpdates    = prometheus.NewDesc("sealkeep_storage_updates_total", "Update functions committed.", nil, nil)
	descFailures   = prometheus.NewDesc("sealkeep_storage_commit_failures_total", "Commits that failed.", nil, nil)
	descWaiting    = prometheus.NewDesc("sealkeep_storage_updates_waiting", "Updates that wait for their turn.", nil, nil)
	descRefused    = prometheus.NewDesc("sealkeep_storage_updates_refused_total", "Updates that were refused because too many waited.", nil, nil)
	descViews      = prometheus.NewDesc("sealkeep_storage_views", "Read transactions running now.", nil, nil)
	descOldestView = prometheus.NewDesc("sealkeep_storage_oldest_view_seconds", "Age of the oldest read transaction.", nil, nil)
	descFileBytes  = prometheus.NewDesc("sealkeep_storage_file_bytes", "Size of the store's file.", nil, nil)
	descAudited    = prometheus.NewDesc("sealkeep_audit_records_total", "Records of the audit log, by device and outcome: written, or lost.", []string{"device", "outcome"}, nil)
	descAuditFails = prometheus.NewDesc("sealkeep_audit_device_failing", "1 while the audit device cannot be written to.", []string{"device"}, nil)
	descFreePages  = prometheus.NewDesc("sealkeep_storage_free_pages", "Pages of the file that are free.", nil, nil)
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.k.metrics.all() {
		m.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{descInitialized, descSealed, descHeld, descSlot, descSlotLast, descSlotOpened, descTokenTTL, descTerms, descTerm, descScrubbed, descDamage, descCommits, descUpdates,
		descFailures, descWaiting, descRefused, descViews, descOldestView, descFileBytes, descFreePages, descAudited, descAuditFails} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c.k.metrics.all() {
		m.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	st := c.k.Status()
	gauge(descInitialized, oneIf(st.Initialized))
	gauge(descSealed, oneIf(st.Sealed))
	gauge(descHeld, oneIf(st.Held))
	for i, sl := range st.Slots {
		if slices.ContainsFunc(st.Slots[:i], func(o SlotStatus) bool { return o.Name == sl.Name && o.Type == sl.Type }) {
			continue // no two metrics may have the same labels
		}
		up, class := sl.FailedSince.IsZero(), sl.Class
		switch sl.State {
		case SlotRecovery: // only its people know whether it opens
			continue
		case SlotRevoked:
			if up, class = false, string(sl.State); sl.Priority == 0 { // it has no seal that could be taken out
				continue
			}
		case SlotPending: // a pending slot opens if it is stored
			up, class = up && sl.KeyID != "", string(sl.State)
		case SlotOrphaned, SlotQuarantined, SlotMissing:
			up, class = false, string(sl.State)
		}
		gauge(descSlot, oneIf(up), sl.Name, sl.Type, class)
		if !sl.LastAttempt.IsZero() {
			gauge(descSlotLast, float64(sl.LastAttempt.UnixMilli())/1000, sl.Name, sl.Type)
		}
		if !sl.LastOpened.IsZero() {
			gauge(descSlotOpened, float64(sl.LastOpened.UnixMilli())/1000, sl.Name, sl.Type)
		}
	}
	if c.k.damage != nil {
		gauge(descDamage, 1)
	}
	if last := c.k.scrubbed.Load(); last != nil {
		gauge(descScrubbed, float64(last.at.Unix()))
		gauge(descDamage, float64(last.findings))
	}
	c.k.mu.Lock()
	store := c.k.store
	ttls := make(map[*slot]time.Duration)
	for _, sl := range c.k.slots {
		if t, ok := sl.seal.(interface{ TokenTTL() (time.Duration, bool) }); ok {
			if ttl, ok := t.TokenTTL(); ok {
				ttls[sl] = ttl
			}
		}
	}
	c.k.mu.Unlock()
	for sl, ttl := range ttls {
		gauge(descTokenTTL, ttl.Seconds(), sl.Name, sl.Type)
	}
	if u := c.k.unsealed.Load(); u != nil {
		if ks, err := u.Store.KeyStatus(u.ctx); err == nil {
			gauge(descTerms, float64(len(ks.Terms)))
			gauge(descTerm, float64(ks.Installed.Unix()))
		}
		for _, d := range u.Audit.Status() {
			name := strings.TrimSuffix(d.Path, "/")
			ch <- prometheus.MustNewConstMetric(descAudited, prometheus.CounterValue, float64(d.Written), name, "written")
			ch <- prometheus.MustNewConstMetric(descAudited, prometheus.CounterValue, float64(d.Lost), name, "lost")
			gauge(descAuditFails, oneIf(d.Failing != nil), name)
		}
	}
	if store == nil {
		return
	}
	f := store.Stats()
	count(descCommits, f.Commits)
	count(descUpdates, f.Updates)
	count(descFailures, f.Failures)
	gauge(descWaiting, float64(f.Waiting))
	count(descRefused, f.Refused)
	gauge(descViews, float64(f.Views))
	gauge(descOldestView, f.OldestView.Seconds())
	gauge(descFileBytes, float64(f.FileBytes))
	gauge(descFreePages, float64(f.FreePages))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
