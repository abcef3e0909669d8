package keep

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// The newest key of the barrier encrypts. A rotation adds a key; the records of
// older keys are then re-encrypted in the background, at a rate that leaves the
// disk to the clients, and the older keys are forgotten. The store remembers what
// is left to do, so this continues after a restart. A rotation is requested, or
// starts automatically once the newest key is as old, or has encrypted as much, as
// sys/rotate/config says. The default is never, since the cipher has no limit.
//
//	reencryptRate    records re-encrypted a second
//	rotationCheck    how often the newest key's age is checked
//	rotationRetry    the pause after a failure
//	minRotation      the shortest interval that can be set, as in Vault
//	minOperations    the fewest operations, as in Vault
const (
	reencryptRate = 2000
	rotationCheck = time.Hour
	rotationRetry = time.Minute
	minRotation   = api.Seconds(24 * 60 * 60)
	minOperations = 1_000_000

	rotateConfigPath = "sys/rotate-config"
)

// rotateConfig says when the barrier's key is rotated automatically. A zero means
// no limit.
type rotateConfig struct {
	Version       int         `json:"version"`
	Enabled       bool        `json:"enabled"`
	Interval      api.Seconds `json:"interval"`       // since the newest key was made
	MaxOperations int64       `json:"max_operations"` // records encrypted with it
}

// A reencryption is the progress of the re-encryption in the background. It counts
// records of the store, whatever their key.
type reencryption struct {
	mu            sync.Mutex
	running       bool
	passed, total uint64
}

func (p *reencryption) set(running bool, passed, total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running, p.passed, p.total = running, passed, total
}

func (p *reencryption) view() map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return map[string]any{"running": p.running, "passed": p.passed, "total": p.total}
}

// rotation rotates and re-encrypts when due, until the keep is sealed.
func (k *Keep) rotation(u *Unsealed) {
	for {
		delay := rotationCheck
		err := k.rotateIfDue(u)
		if err == nil {
			err = k.reencrypt(u)
		}
		if u.ctx.Err() != nil {
			return
		}
		if err != nil {
			delay = rotationRetry
			k.log.Error("rotating the barrier's key failed, will try again", "error", err)
		}
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-u.rotated:
		case <-u.ctx.Done():
		}
		t.Stop()
	}
}

// rotateIfDue rotates the key if sys/rotate/config says so.
func (k *Keep) rotateIfDue(u *Unsealed) error {
	c, err := u.rotateConfig(u.ctx)
	if err != nil || !c.Enabled {
		return err
	}
	ks, err := u.Store.KeyStatus(u.ctx)
	if err != nil {
		return err
	}
	age := k.now().Sub(ks.Installed)
	old := c.Interval > 0 && age >= time.Duration(c.Interval)*time.Second
	if used := c.MaxOperations > 0 && ks.Writes >= uint64(c.MaxOperations); !old && !used {
		return nil
	}
	if err := u.Store.Rotate(u.ctx); err != nil {
		return err
	}
	k.log.Info("rotated the keyring", "age", age.Round(time.Second), "writes", ks.Writes)
	return nil
}

// reencrypt re-encrypts all records with the newest key, if there are older keys.
func (k *Keep) reencrypt(u *Unsealed) error {
	ks, err := u.Store.KeyStatus(u.ctx)
	if err != nil || len(ks.Terms) < 2 {
		return err
	}
	began := time.Now()
	u.reencryption.set(true, 0, ks.Records)
	defer u.reencryption.set(false, 0, 0)
	if err := u.Store.Reencrypt(u.ctx, reencryptRate, func(passed uint64) { u.reencryption.set(true, passed, max(passed, ks.Records)) }); err != nil {
		return err
	}
	k.log.Info("re-encrypted the store with the newest key", "term", ks.Term, "records", ks.Records, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// wakeRotation has the background look again.
func (u *Unsealed) wakeRotation() {
	select {
	case u.rotated <- struct{}{}:
	default:
	}
}

func (u *Unsealed) rotateConfig(ctx context.Context) (c rotateConfig, err error) {
	err = u.Store.View(ctx, func(tx *storage.Tx) (err error) {
		c, err = readRotation(tx)
		return err
	})
	return c, err
}

func readRotation(tx *storage.Tx) (rotateConfig, error) {
	c := rotateConfig{Version: recordVersion, Enabled: true}
	value, err := tx.Get(rotateConfigPath)
	switch {
	case err != nil:
		return c, fmt.Errorf("reading when to rotate: %w", err)
	case value == nil:
		return c, nil
	}
	if err := json.Unmarshal(value, &c); err != nil {
		return c, fmt.Errorf("decoding when to rotate: %w: %w", storage.ErrCorrupt, err)
	}
	if c.Version != recordVersion {
		return c, fmt.Errorf("decoding when to rotate: %w: record version %d, this program reads %d", storage.ErrFormat, c.Version, recordVersion)
	}
	return c, nil
}

// rotationRoutes returns the routes for the barrier's key, at Vault's paths and at
// OpenBao's.
func (k *Keep) rotationRoutes() (routes []api.Route) {
	for _, path := range []string{"rotate", "rotate/keyring"} {
		routes = append(routes,
			api.Route{Path: path, Help: "Adds a key to the barrier, with which all is then encrypted.", Sudo: []api.Op{api.Write}, Timeout: longTimeout,
				Ops: map[api.Op]api.Handler{api.Write: api.Do(k.writeRotate)}},
			api.Route{Path: path + "/config", Help: "When the barrier's key is rotated by itself.", Settings: true,
				Ops: map[api.Op]api.Handler{api.Read: api.Do(k.readRotateConfig).Answers(rotateConfigView{}), api.Write: api.Do(k.writeRotateConfig)}})
	}
	return append(routes, api.Route{Path: "key-status", Help: "The barrier's newest key, and how far the encryption with it is.",
		Ops: map[api.Op]api.Handler{api.Read: api.Do(k.readKeyStatus).Answers(viewKeys(storage.KeyStatus{}, new(reencryption)))}})
}

func (k *Keep) readKeyStatus(r *api.Request, _ *api.None) (api.Answer, error) {
	u := Of(r)
	st, err := u.Store.KeyStatus(r.Context)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Inject: true, Data: viewKeys(st, &u.reencryption)}, nil
}

func viewKeys(st storage.KeyStatus, progress *reencryption) map[string]any {
	return map[string]any{
		"term":         st.Term,
		"install_time": st.Installed.UTC().Format(time.RFC3339Nano),
		"encryptions":  st.Writes,
		"terms":        st.Terms,
		"reencryption": progress.view(),
	}
}

func (k *Keep) writeRotate(r *api.Request, _ *api.None) (api.Answer, error) {
	u := Of(r)
	if err := u.Store.Rotate(r.Context); err != nil {
		return api.Answer{}, err
	}
	u.wakeRotation()
	k.log.Info("rotated the keyring", "request", r.ID)
	return api.Answer{}, nil
}

func (k *Keep) readRotateConfig(r *api.Request, _ *api.None) (api.Answer, error) {
	c, err := Of(r).rotateConfig(r.Context)
	if err != nil {
		return api.Answer{}, err
	}
	data := rotateConfigView{Enabled: c.Enabled, Interval: 0, MaxOperations: c.MaxOperations}
	if c.Interval > 0 {
		data.Interval = (time.Duration(c.Interval) * time.Second).String() // a string, as in Vault
	}
	return api.Answer{Inject: true, Data: data}, nil
}

type rotateConfigView struct {
	Enabled       bool  `json:"enabled"`
	Interval      any   `json:"interval"` // 0, or a text like "48h0m0s", as Vault has it
	MaxOperations int64 `json:"max_operations"`
}

type rotateConfigInput struct {
	Enabled       *bool        `json:"enabled"`
	Interval      *api.Seconds `json:"interval"`
	MaxOperations *int64       `json:"max_operations"`
}

// writeRotateConfig changes the settings in the body and leaves the others.
func (k *Keep) writeRotateConfig(r *api.Request, in *rotateConfigInput) (api.Answer, error) {
	if in.Interval != nil && *in.Interval == api.Unchanged {
		in.Interval = nil
	}
	switch {
	case in.Interval != nil && *in.Interval != 0 && *in.Interval < minRotation:
		return api.Answer{}, invalid("interval must be 24 hours or more, or 0 for no rotation by age")
	case in.MaxOperations != nil && *in.MaxOperations != 0 && *in.MaxOperations < minOperations:
		return api.Answer{}, invalid("max_operations must be %d or more, or 0 for no rotation by use", minOperations)
	}
	u := Of(r)
	err := u.Store.Update(r.Context, func(tx *storage.Tx) error {
		c, err := readRotation(tx)
		if err != nil {
			return err
		}
		api.Set(&c.Enabled, in.Enabled)
		api.Set(&c.Interval, in.Interval)
		api.Set(&c.MaxOperations, in.MaxOperations)
		value, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("encoding when to rotate: %w", err)
		}
		return tx.Put(rotateConfigPath, value)
	})
	if err != nil {
		return api.Answer{}, err
	}
	u.wakeRotation()
	return api.Answer{}, nil
}
