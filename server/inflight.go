package server

import (
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/api"
)

// inFlightRoutes say what is under way, below sys/.
func (s *Server) inFlightRoutes() []api.Route {
	return []api.Route{
		{Path: "in-flight-req", Help: "The requests that are being answered, by ID.", Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readInFlight).AnswersRaw(map[string]inFlightView{})}},
	}
}

// inFlight is the requests that have been admitted and are not answered yet, those
// that wait for their body among them. They are linked through themselves, so that
// a request that comes and goes costs two locks, which it seldom shares, and no
// memory.
type inFlight [16]flights

type flights struct {
	mu    sync.Mutex
	first *request
	_     [48]byte // a cache line is 64 bytes
}

// of is where the request has its place.
func (f *inFlight) of(r *request) *flights { return &f[r.ID[len(r.ID)-1]%16] }

// A flight is a request's place among those in flight.
type flight struct {
	prev, next *request
	up         bool
}

// takeOff enters the request among those in flight. From here on nothing of it
// changes that readInFlight reads.
func (s *Server) takeOff(r *request) error {
	at := s.inFlight.of(r)
	at.mu.Lock()
	defer at.mu.Unlock()
	r.flight = flight{next: at.first, up: true}
	if at.first != nil {
		at.first.flight.prev = r
	}
	at.first = r
	return nil
}

// land takes the request out again.
func (s *Server) land(r *request) {
	f := &r.flight
	if !f.up {
		return
	}
	at := s.inFlight.of(r)
	at.mu.Lock()
	defer at.mu.Unlock()
	if f.next != nil {
		f.next.flight.prev = f.prev
	}
	if f.prev != nil {
		f.prev.flight.next = f.next
	} else {
		at.first = f.next
	}
}

// inFlightView is a request as sys/in-flight-req shows it. Who asks is in the audit
// log, under the request's ID.
type inFlightView struct {
	Start    time.Time `json:"start_time"`
	Remote   string    `json:"client_remote_address"`
	Path     string    `json:"request_path"` // as the audit log has it
	Method   string    `json:"request_method"`
	ClientID string    `json:"client_id"` // of an entity; tokens without one have none
}

func (s *Server) readInFlight(*api.Request, *api.None) (api.Answer, error) {
	all := make(map[string]inFlightView)
	for i := range s.inFlight {
		at := &s.inFlight[i]
		at.mu.Lock()
		for r := at.first; r != nil; r = r.flight.next {
			v := inFlightView{Start: r.start.UTC(), Remote: r.Remote(), Path: "/v1/" + r.Path, Method: r.http.Method}
			if r.Caller.Token != nil {
				v.ClientID = r.Caller.Token.EntityID
			}
			all[r.ID] = v
		}
		at.mu.Unlock()
	}
	return api.Answer{Raw: &api.Raw{JSON: all}}, nil
}
