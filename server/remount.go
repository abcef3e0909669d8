package server

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/sealkeep/sealkeep/api"
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

// moves are the last ones, of which clients may still ask.
type moves struct {
	mu   sync.Mutex
	last []move
}

const maxMoves = 100

// move moves a mount. A path that is in use by another mount, or would be inside
// one or around one, is refused.
func (k *keep) move(ctx context.Context, in *mountTables, from, to string) error {
	return k.change(ctx, in, func(_ *storage.Tx, t *mountTable) (*mountTable, error) {
		m := t.byPath[from]
		if m == nil {
			return nil, invalid("no matching mount at %q", from+"/")
		}
		moved := *m
		moved.Path = to + "/"
		t = t.with(from, nil)
		if err := t.free(moved.Path); err != nil {
			return nil, err
		}
		return t.with(to, &moved), nil
	})
}

func remount(s *Server, r *request) (answer, error) {
	var in struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	from, to := strings.Trim(in.From, "/"), strings.Trim(in.To, "/")
	if from == "" || to == "" {
		return answer{}, invalid("both 'from' and 'to' path must be specified as a string")
	}
	tables, taken := &r.keep.mounts, reserved
	source, isAuth := strings.CutPrefix(from, "auth/")
	target, toAuth := strings.CutPrefix(to, "auth/")
	switch {
	case isAuth && !toAuth:
		return answer{}, invalid("cannot remount auth mount to non-auth mount %q", to+"/")
	case isAuth:
		tables, taken = &r.keep.auths, []string{"token"}
	default:
		target = to
	}
	if first, _, _ := strings.Cut(source, "/"); slices.Contains(taken, first) {
		return answer{}, invalid("cannot remount %q", source+"/")
	}
	if first, _, _ := strings.Cut(target, "/"); slices.Contains(taken, first) {
		return answer{}, invalid("cannot remount to destination %q", target+"/")
	}
	if _, err := cleanPath("/v1/" + target); err != nil {
		return answer{}, err
	}
	if err := checkMountPath(target); err != nil {
		return answer{}, err
	}
	if err := r.keep.move(r.Context, tables, source, target); err != nil {
		return answer{}, err
	}
	s.log.Info("mount moved", "from", from+"/", "to", to+"/", "request", r.ID)
	m := &r.keep.moves
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = append(m.last[max(0, len(m.last)-maxMoves+1):], move{storage.NewUUID(), from + "/", to + "/", "success"})
	return answer{data: map[string]string{"migration_id": m.last[len(m.last)-1].ID}}, nil
}

func remountStatus(s *Server, r *request) (answer, error) {
	m := &r.keep.moves
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.last {
		if one.ID == r.rest {
			return answer{data: map[string]any{"migration_id": one.ID, "migration_info": one}}, nil
		}
	}
	return answer{}, api.ErrAbsent
}
