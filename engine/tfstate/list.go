package tfstate

import (
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// A page begins behind a name.
type page struct {
	After string `json:"after"`
	Limit int    `json:"limit"` // 0 or less, or more: mostListed
	Locks bool   `json:"locks"` // only those that are locked
}

// list lists a folder.
func list(r *api.Request, tx *storage.Tx, in *page) (api.Answer, error) {
	e, folder := of(r)
	names, err := tx.List(strings.TrimSuffix(e.headPath(folder), "/"))
	if err != nil {
		return api.Answer{}, err
	}
	if in.After != "" {
		i, found := slices.BinarySearch(names, in.After)
		if found {
			i++
		}
		names = names[i:]
	}
	if in.Limit > 0 {
		names = names[:min(in.Limit, len(names))]
	}
	return api.Keys(names, nil)
}

// A listed state is one with what is known of it.
type listed struct {
	Path    string    `json:"path"`
	Current *version  `json:"current"` // null: it was never written
	Deleted time.Time `json:"deletion_time,omitzero"`
	Lock    any       `json:"lock"` // what the holder says of it; null: it is not locked
}

// listStates lists the states in a folder and in all folders in it, with what is known
// of each, in pages of mostListed at most.
func listStates(r *api.Request, tx *storage.Tx, in *page) (api.Answer, error) {
	e, folder := of(r)
	if in.Limit <= 0 || in.Limit > mostListed {
		in.Limit = mostListed
	}
	w := &walk{e: e, tx: tx, in: in, states: []listed{}}
	if err := w.folder(folder); err != nil {
		return api.Answer{}, err
	}
	data := map[string]any{"states": w.states}
	if w.more {
		data["next"] = w.states[len(w.states)-1].Path
	}
	return api.Answer{Data: data}, nil
}

// A walk goes through the states in the order of their paths, segment by segment.
type walk struct {
	e      engine
	tx     *storage.Tx
	in     *page
	states []listed
	more   bool // there is more than the page has
}

func (w *walk) folder(folder string) error {
	of := "/state"
	if w.in.Locks {
		of = "/lock"
	}
	names, err := w.tx.List(strings.TrimSuffix(w.e.prefix+of+"/"+folder, "/"))
	if err != nil {
		return err
	}
	slices.SortFunc(names, compare) // the folder a/ comes before the state a-b
	if folder != "" {
		folder += "/"
	}
	for _, name := range names {
		sub, isFolder := strings.CutSuffix(name, "/")
		path := folder + sub
		switch {
		case w.more:
			return nil
		case isFolder:
			if w.in.After == "" || compare(path, w.in.After) >= 0 || strings.HasPrefix(w.in.After, path+"/") {
				if err := w.folder(path); err != nil {
					return err
				}
			}
		case w.in.After != "" && compare(path, w.in.After) <= 0:
		case len(w.states) == w.in.Limit:
			w.more = true
		default:
			one, err := w.one(path)
			if err != nil {
				return err
			}
			w.states = append(w.states, one)
		}
	}
	return nil
}

func (w *walk) one(path string) (s listed, err error) {
	s.Path = path
	h, err := w.e.head(w.tx, path)
	if err != nil {
		return s, err
	}
	if h != nil {
		s.Current, s.Deleted = h.Current, h.Deleted
	}
	l, err := w.e.lock(w.tx, path)
	if err == nil && l != nil {
		s.Lock = l.Info
	}
	return s, err
}

// compare orders paths as a walk meets them: segment by segment, a state before the
// folder of the same name.
func compare(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) }
