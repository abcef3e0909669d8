package sys

import (
	"slices"
	"strings"
	"sync"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/storage"
)

// A move gives a mount another path. What is in it lies in a folder that does not
// hang on the path, so it is a change of the mount table alone, done when the
// request is answered; tokens of a login method go on. Vault answers before, with
// an ID by which the client asks how it went: so does this.
type move struct {
	ID     string `json:"-"`
	Source string `json:"source_mount"`
	Target string `json:"target_mount"`
	Status string `json:"status"`
}

type moving struct {
	ID string `json:"migration_id"`
}

type moved struct {
	ID   string `json:"migration_id"`
	Info move   `json:"migration_info"`
}

// moves are the last ones, of which clients may still ask.
type moves struct {
	mu   sync.Mutex
	last []move
}

const maxMoves = 100

type remountInput struct {
	From string `json:"from"`
	To   string `json:"to"`
}

func (s *System) remount(r *api.Request, in *remountInput) (api.Answer, error) {
	from, to := strings.Trim(in.From, "/"), strings.Trim(in.To, "/")
	if from == "" || to == "" {
		return api.Answer{}, invalid("both 'from' and 'to' path must be specified as a string")
	}
	u := keep.Of(r)
	tables, taken := &u.Engines, reserved
	source, isAuth := strings.CutPrefix(from, "auth/")
	target, toAuth := strings.CutPrefix(to, "auth/")
	switch {
	case isAuth && !toAuth:
		return api.Answer{}, invalid("cannot remount auth mount to non-auth mount %q", to+"/")
	case isAuth:
		tables, taken = &u.Logins, []string{"token"}
	default:
		target = to
	}
	if first, _, _ := strings.Cut(source, "/"); slices.Contains(taken, first) {
		return api.Answer{}, invalid("cannot remount %q", source+"/")
	}
	if first, _, _ := strings.Cut(target, "/"); slices.Contains(taken, first) {
		return api.Answer{}, invalid("cannot remount to destination %q", target+"/")
	}
	if _, err := api.CleanPath("/v1/" + target); err != nil {
		return api.Answer{}, err
	}
	if err := checkMountPath(target); err != nil {
		return api.Answer{}, err
	}
	if err := u.Move(r.Context, tables, source, target); err != nil {
		return api.Answer{}, err
	}
	r.Frame.Log().Info("mount moved", "from", from+"/", "to", to+"/", "request", r.ID)
	m := &s.moves
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = append(m.last[max(0, len(m.last)-maxMoves+1):], move{storage.NewUUID(), from + "/", to + "/", "success"})
	return api.Answer{Data: moving{m.last[len(m.last)-1].ID}}, nil
}

func (s *System) remountStatus(r *api.Request, _ *api.None) (api.Answer, error) {
	id := r.Param("id")
	m := &s.moves
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.last {
		if one.ID == id {
			return api.Answer{Data: moved{one.ID, one}}, nil
		}
	}
	return api.Answer{}, api.ErrAbsent
}
