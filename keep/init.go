package keep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/storage"
)

// InitRequest says how to initialize a keep. The names are Vault's, except
// recovery_age_recipients. A request over HTTP that names no recovery shares
// gets 5 with a threshold of 3, unless the configuration has recipients.
type InitRequest struct {
	SecretShares      int      `json:"secret_shares"`
	SecretThreshold   int      `json:"secret_threshold"`
	PGPKeys           []string `json:"pgp_keys"`
	RecoveryShares    int      `json:"recovery_shares"` // 0: none
	RecoveryThreshold int      `json:"recovery_threshold"`
	RecoveryAge       []string `json:"recovery_age_recipients"` // one per share, which is handed out encrypted to it
	RecoveryPGPKeys   []string `json:"recovery_pgp_keys"`
	RootTokenPGPKey   string   `json:"root_token_pgp_key"`

	RootToken string `json:"-"` // the root token to create; empty: a random one
}

// InitResponse is what init hands out, once.
type InitResponse struct {
	Keys               []string `json:"keys"`
	KeysBase64         []string `json:"keys_base64"`
	RecoveryKeys       []string `json:"recovery_keys"`
	RecoveryKeysBase64 []string `json:"recovery_keys_base64"`
	RootToken          string   `json:"root_token"`
	Fingerprint        string   `json:"fingerprint"` // of the root key, as seal-status shows it
	Warnings           []string `json:"warnings,omitempty"`
}

// Init creates the store, with a root token and the mount secret/. It makes a
// new root key, which every enabled seal wraps and unwraps once, and wraps it for
// the people who may recover it. It creates either everything, and unseals
// the keep, or nothing. Calls run one at a time; later ones get [ErrInitialized].
func (k *Keep) Init(ctx context.Context, in InitRequest) (*InitResponse, error) {
	return k.initialize(ctx, in, nil)
}

// initialize is Init. record, if not nil, records the answer in the audit log
// before the store exists; if it fails, nothing is created.
func (k *Keep) initialize(ctx context.Context, in InitRequest, record func(*audit.Log, *InitResponse) error) (*InitResponse, error) {
	select {
	case k.initializing <- struct{}{}:
		defer func() { <-k.initializing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	k.mu.Lock()
	if k.store != nil || k.damage != nil || k.closed {
		defer k.mu.Unlock()
		if k.closed {
			return nil, storage.ErrClosed
		}
		return nil, ErrInitialized
	}
	set := k.seals
	set.users.Add(1)
	k.mu.Unlock()
	defer set.users.Done()

	seals := slices.DeleteFunc(slices.Clone(set.all), Seal.Disabled)
	// A configuration without any seal block means this (config.Load says so).
	manual := len(set.all) == 0 && (in.RecoveryShares > 0 || k.hasRecipients())
	out, err := in.check(seals, manual)
	if err != nil {
		return nil, err
	}
	root, id := storage.NewRootKey(), storage.NewUUID()
	defer clear(root)
	slots, err := k.wrapAll(ctx, seals, root, id)
	if err == nil {
		slots, err = k.addRecovery(slots, in, out, root, id)
	}
	if err != nil {
		k.log.Error("initializing failed, nothing was written", "error", err)
		return nil, err
	}
	out.Fingerprint = storage.Fingerprint(root)
	k.mu.Lock()
	devices := k.devices
	k.mu.Unlock()
	err = storage.Create(k.config.Path, id, root, slots, func(tx *storage.Tx) (err error) {
		if out.RootToken, err = access.CreateRoot(tx, in.RootToken, k.now()); err != nil {
			return err
		}
		if err := mount.WriteFirst(tx, k.types); err != nil {
			return err
		}
		if err := writeUnused(tx); err != nil || record == nil {
			return err
		}
		return audit.First(tx, devices, k.now, k.log, func(a *audit.Log) error { return record(a, out) })
	}, k.config.Storage)
	switch {
	case errors.Is(err, storage.ErrExists):
		return nil, fmt.Errorf("%w: %w", ErrInitialized, err)
	case errors.Is(err, audit.ErrFailed):
		k.metrics.withheld.WithLabelValues("response").Inc()
		return nil, fmt.Errorf("nothing was written, because the answer could not be recorded: %w; repair the audit devices, then try again", audit.ErrFailed)
	case err != nil:
		return nil, fmt.Errorf("creating the store: %w", err)
	}
	k.log.Info("initialized", "store", id, "fingerprint", out.Fingerprint, "slots", len(slots))
	// From here on the store exists, and its root token must reach the user.
	if err := k.openFirst(root); err != nil {
		k.log.Error("the new store did not open", "error", err)
		out.Warnings = append(out.Warnings, fmt.Sprintf("the store was made but did not open: %v; keep the root token, then restart the server", err))
	}
	k.changed()
	return out, nil
}

// openFirst opens the store that was just created.
func (k *Keep) openFirst(root []byte) error {
	k.opening.Lock()
	defer k.opening.Unlock()
	store, err := storage.Open(k.config.Path, k.config.Storage)
	if err != nil {
		return err
	}
	if err := store.Unseal(root); err != nil {
		return errors.Join(err, store.Close())
	}
	u, err := k.newUnsealed(store)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		u.abandon()
		return errors.Join(storage.ErrClosed, store.Close())
	}
	k.store = store
	k.publishLocked(u, nil)
	return nil
}

// check refuses what a keep cannot do, and begins the answer. manual means that
// people open the keep, and no seal does.
func (in InitRequest) check(seals []Seal, manual bool) (*InitResponse, error) {
	if len(seals) == 0 && !manual {
		return nil, invalid("no enabled seal is configured: add a seal block, such as seal \"awskms\" {}, and restart or reload")
	}
	if len(in.PGPKeys) != 0 || len(in.RecoveryPGPKeys) != 0 || in.RootTokenPGPKey != "" {
		return nil, invalid("pgp_keys, recovery_pgp_keys and root_token_pgp_key are not supported: nothing is encrypted with PGP; leave them out")
	}
	if in.SecretShares < 0 || in.SecretThreshold < 0 || in.SecretThreshold > in.SecretShares {
		return nil, invalid("secret_threshold must not be larger than secret_shares")
	}
	if in.RecoveryShares != 0 || len(in.RecoveryAge) != 0 {
		if err := checkShares("recovery", in.RecoveryShares, in.RecoveryThreshold, in.RecoveryAge); err != nil {
			return nil, err
		}
	}
	out := &InitResponse{Keys: []string{}, KeysBase64: []string{}, RecoveryKeys: []string{}, RecoveryKeysBase64: []string{}}
	// Vault refuses these with an auto-unseal, but many clients always send 5 and 3.
	if in.SecretShares != 0 && !manual {
		out.Warnings = append(out.Warnings, "secret_shares and secret_threshold were ignored: this keep opens itself, with seal type "+seals[0].Type()+", and has no unseal keys")
	}
	if manual {
		out.Warnings = append(out.Warnings, "no seal is configured: after each start this keep waits until people open it, with `sealkeep operator unseal`")
	}
	return out, nil
}

// addRecovery adds the slots that people open, and adds their shares to the answer.
func (k *Keep) addRecovery(slots []storage.Slot, in InitRequest, out *InitResponse, root []byte, id string) ([]storage.Slot, error) {
	k.mu.Lock()
	recipients := k.recipients
	k.mu.Unlock()
	if len(recipients) != 0 {
		slot, err := newAgeSlot(ageSlot, recipients, root, id, 1, k.now())
		if err != nil {
			return nil, invalid("recovery \"age\" of the configuration: %v; nothing was written", err)
		}
		slots = append(slots, slot)
	}
	if in.RecoveryShares != 0 {
		slot, shares, err := newSharesSlot(sharesSlot, in.RecoveryShares, in.RecoveryThreshold, root, id, 1, k.now())
		if err != nil {
			return nil, err
		}
		if out.RecoveryKeys, out.RecoveryKeysBase64, err = shareTexts(shares, in.RecoveryAge); err != nil {
			return nil, err
		}
		slots = append(slots, slot)
	}
	if len(recipients) == 0 && in.RecoveryShares == 0 {
		out.Warnings = append(out.Warnings, "there is no recovery slot: if the keys in the key services are lost, so is everything in this keep; "+
			"`sealkeep operator rekey -init` makes recovery shares, a block recovery \"age\" in the configuration a slot for age identities")
	}
	return slots, nil
}

func (k *Keep) hasRecipients() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.recipients) != 0
}

// wrapAll makes a slot with every seal, concurrently. A slot counts only once it
// has been opened again, so that a key that may encrypt but not decrypt is found
// here, not at the next boot.
func (k *Keep) wrapAll(ctx context.Context, seals []Seal, root []byte, id string) ([]storage.Slot, error) {
	slots, errs := make([]storage.Slot, len(seals)), make([]error, len(seals))
	var wait sync.WaitGroup
	for i, seal := range seals {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, wrapTimeout)
			defer cancel()
			var err error
			if slots[i], err = k.wrapRoot(ctx, seal, root, id, 1); err != nil {
				class := classOf(err)
				errs[i] = invalid("seal %q (%s) could not wrap the root key and open it again: %s: %v; nothing was written; next: %s",
					seal.Name(), seal.Type(), class, err, hints[class])
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return slots, nil
}
