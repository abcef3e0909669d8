package server

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

// Limits say how many requests a second each token and each source may make. A
// source is an address, of IPv6 its /64; clients of a unix socket have none. The
// zero value limits nobody.
type Limits struct{ PerToken, PerSource Rate }

// A Rate is how many requests are let through each second, and how many at once
// by somebody who made none before.
type Rate struct {
	PerSecond int // 0: any number
	Burst     int // 0: PerSecond
}

// unlimited are the paths that tell how the keep is: they are answered however
// much anybody asks.
var unlimited = map[string]bool{"sys/health": true, "sys/seal-status": true, "sys/leader": true, "sys/metrics": true}

// limiterSize is how many tokens or sources each half of a limiter remembers,
// some 4 MB in all. Who is forgotten begins anew.
const limiterSize = 8 << 10

// A limiter counts the requests of each key. It has two halves: when the younger
// is full it becomes the elder, which is forgotten.
type limiter[K comparable] struct {
	of   string // what a key is, for clients and metrics
	rate Rate

	mu         sync.Mutex
	young, old map[K]*rate.Limiter
}

// newLimiter returns nil, which limits nobody, when the rate is none.
func newLimiter[K comparable](of string, r Rate) *limiter[K] {
	if r.PerSecond <= 0 {
		return nil
	}
	if r.Burst <= 0 {
		r.Burst = r.PerSecond
	}
	return &limiter[K]{of: of, rate: r}
}

func (l *limiter[K]) get(key K) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.young[key]
	if one != nil {
		return one
	}
	if one = l.old[key]; one == nil {
		one = rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)
	}
	if l.young == nil || len(l.young) >= limiterSize {
		l.old, l.young = l.young, make(map[K]*rate.Limiter)
	}
	l.young[key] = one
	return one
}

// limiters are those of a configuration.
type limiters struct {
	token  *limiter[access.ID]
	source *limiter[netip.Addr]
}

// SetLimits replaces the limits, as a reload of the configuration does.
func (s *Server) SetLimits(l Limits) {
	s.limits.Store(&limiters{newLimiter[access.ID]("token", l.PerToken), newLimiter[netip.Addr]("source", l.PerSource)})
}

// limitSource refuses a request of a source that has made too many.
func (s *Server) limitSource(r *request) error {
	l := s.limits.Load().source
	if l == nil || unlimited[r.Path] {
		return nil
	}
	from := r.network()
	if !from.IsValid() {
		return nil
	}
	return take(s, r, l, from)
}

// network is the source of a request as limits count it: of IPv6 its /64.
func (r *request) network() netip.Addr {
	from := r.Caller.Source
	if from.Is6() {
		p, _ := from.Prefix(64) // never fails
		from = p.Addr()
	}
	return from
}

// limitToken refuses a request of a token that has made too many.
func (s *Server) limitToken(r *request) error {
	l := s.limits.Load().token
	if l == nil || r.Caller.Token == nil || unlimited[r.Path] {
		return nil
	}
	return take(s, r, l, r.Caller.Token.ID())
}

func take[K comparable](s *Server, r *request, l *limiter[K], key K) error {
	one, now := l.get(key), s.now()
	if one.AllowN(now, 1) {
		return nil
	}
	s.metrics.limited.WithLabelValues(l.of).Inc()
	missing := 1 - one.TokensAt(now)
	return &api.Error{Code: api.Busy, Text: fmt.Sprintf("request path %q: rate limit of the %s exceeded", r.Path, l.of), After: time.Duration(missing / float64(l.rate.PerSecond) * float64(time.Second))}
}
