package server

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
)

// metrics are the figures of one server, in a registry of its own. Labels come
// from the tables of routes, the configured seals and the lists of classes and
// status codes: their number is bounded whatever clients send.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec

	logins *prometheus.CounterVec

	connections prometheus.Gauge
	refused     prometheus.Counter
	limited     *prometheus.CounterVec
}

func newMetrics(k *keep.Keep) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealkeep_http_requests_total",
			Help: "Requests answered, by route and status code.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sealkeep_http_request_duration_seconds",
			Help:    "Time from the request's headers to its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route"}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealkeep_logins_total",
			Help: "Logins, by the type of their method and result: ok, failed, slowed (not checked, for too many had failed), error.",
		}, []string{"type", "result"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sealkeep_http_connections",
			Help: "Open connections of all listeners.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealkeep_http_connections_refused_total",
			Help: "Connections closed because their listener had too many: those that had been silent longest, if any was.",
		}),
	}
	m.limited = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sealkeep_http_requests_limited_total",
		Help: "Requests refused because their token or their source had made too many, by which of the two.",
	}, []string{"by"})
	m.registry.MustRegister(m.limited, m.requests, m.duration, m.logins, m.connections, m.refused, k.Collector(),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) request(route string, status int, d time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route).Observe(d.Seconds())
}

func (m *metrics) login(kind, result string) { m.logins.WithLabelValues(kind, result).Inc() }

// text is all metrics in Prometheus' text format.
func (m *metrics) text() ([]byte, error) {
	families, err := m.registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("gathering metrics: %w", err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return nil, fmt.Errorf("encoding metrics: %w", err)
		}
	}
	return b.Bytes(), nil
}

// metricsRoutes are below sys/.
func (s *Server) metricsRoutes() []api.Route {
	return []api.Route{
		{Path: "metrics", Help: "The metrics, as Prometheus reads them.", Quiet: true, Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readMetrics)}},
	}
}

func (s *Server) readMetrics(r *api.Request, _ *api.None) (api.Answer, error) {
	text, err := s.metrics.text()
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Raw: &api.Raw{Type: "text/plain; version=0.0.4; charset=utf-8", Bytes: text}}, nil
}
