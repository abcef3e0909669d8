package tfstate

import (
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Settings are those of a mount, and of a state where they say something.
type Settings struct {
	MaxVersions    int           `json:"max_versions,omitempty"`     // kept; 0: the mount's, or 1,000
	MaxAge         time.Duration `json:"max_age,omitempty"`          // of a version that is not the newest; 0: the mount's, or any
	Strict         bool          `json:"strict,omitempty"`           // refuse another lineage, and a serial that goes back
	MaxLockSession time.Duration `json:"max_lock_session,omitempty"` // of the mount alone; 0: 12 h
}

const (
	defaultVersions = 1000
	defaultSession  = 12 * time.Hour
	mostVersions    = 100_000
)

func (s Settings) session() time.Duration {
	if s.MaxLockSession == 0 {
		return defaultSession
	}
	return s.MaxLockSession
}

// over returns the settings of a state in a mount with the settings m.
func (s Settings) over(m Settings) Settings {
	if s.MaxVersions == 0 {
		s.MaxVersions = m.MaxVersions
	}
	if s.MaxVersions == 0 {
		s.MaxVersions = defaultVersions
	}
	if s.MaxAge == 0 {
		s.MaxAge = m.MaxAge
	}
	s.Strict = s.Strict || m.Strict
	s.MaxLockSession = m.MaxLockSession
	return s
}

type settingsRecord struct {
	Version int `json:"version"`
	Settings
}

// settings returns those of the mount.
func (e engine) settings(tx *storage.Tx) (Settings, error) {
	var r settingsRecord
	_, err := e.get(tx, e.prefix+"/config", "the settings of the states", &r)
	return r.Settings, err
}

type settingsInput struct {
	MaxVersions    *int           `json:"max_versions"`
	MaxAge         *time.Duration `json:"max_age"`
	Strict         *bool          `json:"strict"`
	MaxLockSession *time.Duration `json:"max_lock_session"`
}

func (in *settingsInput) change(s *Settings) error {
	api.Set(&s.MaxVersions, in.MaxVersions)
	api.Set(&s.MaxAge, in.MaxAge)
	api.Set(&s.Strict, in.Strict)
	api.Set(&s.MaxLockSession, in.MaxLockSession)
	switch {
	case s.MaxVersions < 0 || s.MaxVersions > mostVersions:
		return api.Invalid.Errorf("max_versions is from 0, which stands for the default, to %d", mostVersions)
	case s.MaxAge < 0:
		return api.Invalid.Errorf("max_age must not be negative")
	case s.MaxLockSession < 0 || s.MaxLockSession > 7*24*time.Hour:
		return api.Invalid.Errorf("max_lock_session is from 0, which stands for 12 hours, to 7 days")
	}
	return nil
}

// view is the settings as the API shows them.
func (s Settings) view() map[string]any {
	return map[string]any{
		"max_versions": s.MaxVersions, "max_age": int64(s.MaxAge / time.Second), "strict": s.Strict,
		"max_lock_session": int64(s.session() / time.Second),
	}
}

func readConfig(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	s, err := engine{r.Prefix()}.settings(tx)
	return api.Answer{Data: Settings{}.over(s).view()}, err
}

func writeConfig(r *api.Request, tx *storage.Tx, in *settingsInput) (api.Answer, error) {
	e := engine{r.Prefix()}
	s, err := e.settings(tx)
	if err == nil {
		err = in.change(&s)
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, e.put(tx, e.prefix+"/config", settingsRecord{recordVersion, s})
}

// readMetadata says what is known of a state, and which settings it has.
func readMetadata(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	e, path := of(r)
	h, err := e.head(tx, path)
	if err == nil && h == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	s, err := e.settings(tx)
	if err != nil {
		return api.Answer{}, err
	}
	data := h.Settings.over(s).view()
	delete(data, "max_lock_session")
	data["current_version"], data["oldest_version"], data["current"] = h.Last, h.First, h.Current
	if !h.Deleted.IsZero() {
		data["deletion_time"] = h.Deleted
	}
	return api.Answer{Data: data}, nil
}

func writeMetadata(r *api.Request, tx *storage.Tx, in *settingsInput) (api.Answer, error) {
	e, path := of(r)
	if in.MaxLockSession != nil {
		return api.Answer{}, api.Invalid.Errorf("max_lock_session is a setting of the mount: write it to config")
	}
	if err := checkPath(path); err != nil {
		return api.Answer{}, err
	}
	h, err := e.head(tx, path)
	if err != nil {
		return api.Answer{}, err
	}
	if h == nil {
		h = &head{Version: recordVersion, ID: newID(), First: 1}
	}
	if err := in.change(&h.Settings); err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, e.put(tx, e.headPath(path), h)
}
