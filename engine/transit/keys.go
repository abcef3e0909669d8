package transit

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Bounds of an hmac key, in bytes.
const (
	hmacLeast = 32
	hmacMost  = 512
)

// leastAutoRotate is the shortest auto_rotate_period.
const leastAutoRotate = time.Hour

type createInput struct {
	Type                 string        `json:"type"`
	Derived              bool          `json:"derived"`
	Convergent           bool          `json:"convergent_encryption"`
	Exportable           bool          `json:"exportable"`
	AllowPlaintextBackup bool          `json:"allow_plaintext_backup"`
	AutoRotate           time.Duration `json:"auto_rotate_period"`
	KeySize              int           `json:"key_size"` // bytes, of an hmac key
}

// defaultType is the type of a key for which none is given.
const defaultType = "aes256-gcm96"

// policy is that of the key to be made.
func (in *createInput) policy() (*policy, error) {
	p := &policy{
		Type: in.Type, Derived: in.Derived, Convergent: in.Convergent, Exportable: in.Exportable, AllowPlaintextBackup: in.AllowPlaintextBackup,
		AutoRotate: in.AutoRotate, KeySize: in.KeySize,
	}
	if p.Type == "" {
		p.Type = defaultType
	}
	if err := checkAutoRotate(p.AutoRotate); err != nil {
		return nil, err
	}
	k := kindOf(p.Type)
	switch {
	case p.Convergent && !p.Derived:
		return nil, api.Invalid.Errorf("convergent encryption requires derivation to be enabled")
	case k == nil:
		return nil, api.Invalid.Errorf("unknown key type %.100s", p.Type)
	case p.KeySize != 0 && !k.hmac:
		return nil, api.Invalid.Errorf("key_size is not valid for algorithm %s", k.name)
	case k.hmac && (p.KeySize < hmacLeast || p.KeySize > hmacMost):
		return nil, api.Invalid.Errorf("invalid key size for HMAC key, must be between %d and %d bytes", hmacLeast, hmacMost)
	case p.Derived && !k.derives():
		return nil, api.Invalid.Errorf("key derivation and convergent encryption not supported for keys of type %s", k.name)
	case p.Convergent && !k.symmetric():
		return nil, api.Invalid.Errorf("convergent encryption not supported for keys of type %s", k.name)
	}
	if p.Derived {
		p.KDF = kdfHKDF
	}
	return p, nil
}

func checkAutoRotate(d time.Duration) error {
	if d != 0 && d < leastAutoRotate {
		return api.Invalid.Errorf("auto rotate period must be 0 to disable or at least an hour")
	}
	return nil
}

// checkName refuses a name that Vault has no path for.
func checkName(name string) error {
	ok := name != ""
	for i, c := range []byte(name) {
		word := c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		ok = ok && (word || (c == '-' || c == '.') && 0 < i && i < len(name)-1)
	}
	if !ok {
		return api.Invalid.Errorf("the name of a key has letters, digits and _, and between them - and .: not %.100q", name)
	}
	return nil
}

// create writes a new key, unless there is one of the name.
func (e engine) create(r *api.Request, name string, p *policy) (existed bool, err error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	err = r.View(func(tx *storage.Tx) error {
		is, err := e.load(tx, name)
		existed = is != nil
		return err
	})
	if err != nil || existed {
		return existed, err
	}
	v, err := generate(p)
	if err != nil {
		return false, err
	}
	err = r.Update(func(tx *storage.Tx) error {
		is, err := e.load(tx, name)
		if existed = is != nil; existed || err != nil {
			return err
		}
		fresh := *p
		fresh.ID, fresh.Latest, fresh.MinDecryption, fresh.First = storage.NewUUID(), 0, 1, 1
		return e.add(tx, name, &fresh, v, r.Now)
	})
	return existed, err
}

func create(r *api.Request, in *createInput) (a api.Answer, err error) {
	e, name := of(r)
	p, err := in.policy()
	if err != nil {
		return a, err
	}
	existed, err := e.create(r, name, p)
	if err != nil {
		return a, err
	}
	if existed {
		a.Warnings = []string{fmt.Sprintf("key %s already existed", name)}
	}
	return a, e.tell(r, name, nil, &a)
}

type readInput struct {
	Context string `json:"context"`
}

func read(r *api.Request, tx *storage.Tx, in *readInput) (a api.Answer, err error) {
	context, err := base64.StdEncoding.DecodeString(in.Context)
	if err != nil {
		return a, api.Invalid.Errorf("failed to base64-decode context")
	}
	e, name := of(r)
	k, err := e.load(tx, name)
	if err == nil && k == nil {
		err = api.ErrAbsent
	}
	if err == nil {
		a.Data, err = k.show(tx, context)
	}
	return a, err
}

// tell puts what a key is like into an answer.
func (e engine) tell(r *api.Request, name string, context []byte, a *api.Answer) error {
	return r.View(func(tx *storage.Tx) error {
		k, err := e.load(tx, name)
		if err == nil && k == nil {
			err = api.ErrAbsent // it was deleted since
		}
		if err == nil {
			a.Data, err = k.show(tx, context)
		}
		return err
	})
}

// show is what reading a key answers. Of a derived key with public keys, context
// says which is shown; of those without there is none.
func (k *key) show(tx *storage.Tx, context []byte) (map[string]any, error) {
	data := map[string]any{
		"name": k.name, "type": k.Type, "derived": k.Derived, "deletion_allowed": k.DeletionAllowed, "soft_deleted": k.SoftDeleted,
		"min_available_version": k.MinAvailable, "min_decryption_version": k.MinDecryption, "min_encryption_version": k.MinEncryption,
		"latest_version": k.Latest, "exportable": k.Exportable, "allow_plaintext_backup": k.AllowPlaintextBackup,
		"supports_encryption": k.encrypts(), "supports_decryption": k.encrypts(), "supports_signing": k.asymmetric(), "supports_derivation": k.derives(),
		"auto_rotate_period": int64(k.AutoRotate / time.Second), "imported_key": k.Imported,
	}
	if k.KeySize != 0 {
		data["key_size"] = k.KeySize
	}
	if k.Imported {
		data["imported_key_allow_rotation"] = k.AllowRotation
	}
	if k.Backup != nil {
		data["backup_info"] = k.Backup
	}
	if k.Restore != nil {
		data["restore_info"] = k.Restore
	}
	if k.Derived {
		data["kdf"], data["convergent_encryption"] = k.KDF, k.Convergent
		if k.KDF == kdfCounter {
			data["kdf_mode"] = k.KDF
		}
		if k.Convergent {
			data["convergent_encryption_version"] = -1 // each version has its own, as Vault says
		}
	}
	versions := make(map[string]any)
	for n := k.MinDecryption; n <= k.Latest; n++ {
		v, err := k.engine.record(tx, k.ID, n)
		if err == nil && v == nil {
			err = fmt.Errorf("reading version %d of the key %q: %w: it is missing", n, k.name, storage.ErrCorrupt)
		}
		if err != nil {
			return nil, err
		}
		if !k.asymmetric() {
			versions[strconv.Itoa(n)] = v.Created.Unix()
			continue
		}
		public, err := k.showPublic(v, context)
		if err != nil {
			return nil, err
		}
		versions[strconv.Itoa(n)] = shownVersion{k.shown, public, showChain(v.Chain), v.Created}
	}
	data["keys"] = versions
	return data, nil
}

// A shownVersion is a version of an asymmetric key.
type shownVersion struct {
	Name             string    `json:"name"`
	PublicKey        string    `json:"public_key"`
	CertificateChain string    `json:"certificate_chain"`
	CreationTime     time.Time `json:"creation_time"`
}

// showPublic is a version's public key: base64 of ed25519, PEM of others. What a
// record has is not parsed for it.
func (k *key) showPublic(v *record, context []byte) (string, error) {
	switch {
	case k.Derived && len(context) == 0:
		return "", nil
	case k.Derived:
		private, err := k.derive(v.Secret, context)
		if err != nil {
			return "", err
		}
		return base64.StdEncoding.EncodeToString(private[ed25519.PublicKeySize:]), nil
	case k.ed25519:
		if len(v.Public) < ed25519.PublicKeySize {
			return "", fmt.Errorf("%w: a public key of %d bytes", storage.ErrCorrupt, len(v.Public))
		}
		return base64.StdEncoding.EncodeToString(v.Public[len(v.Public)-ed25519.PublicKeySize:]), nil
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: v.Public}))
	return text, nil
}

func showChain(chain [][]byte) string {
	var b strings.Builder
	for _, der := range chain {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return strings.TrimSpace(b.String())
}

// A page has a list begin behind a name, and end after a number of them, as OpenBao
// has it.
type page struct {
	After string `json:"after"`
	Limit int    `json:"limit"` // 0 or less: all
}

func list(r *api.Request, tx *storage.Tx, in *page) (api.Answer, error) {
	e, _ := of(r)
	names, err := tx.List(e.prefix + "/policy")
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
	return api.Keys(names, err)
}

func remove(r *api.Request, _ *api.None) (api.Answer, error) {
	e, name := of(r)
	var id string
	err := r.Update(func(tx *storage.Tx) error {
		p, err := e.policy(tx, name)
		switch {
		case err != nil:
			return err
		case p == nil:
			return api.Invalid.Errorf("error deleting policy %s: could not delete key; not found", name)
		case !p.DeletionAllowed:
			return api.Invalid.Errorf("error deleting policy %s: deletion is not allowed for this key", name)
		}
		id = p.ID
		if !p.SoftDeleted {
			others, err := e.others(r, tx, id)
			if err != nil {
				return err
			}
			if len(others) > 0 {
				return errUsed(name, others)
			}
		}
		if err := tx.Delete(e.usePath(id)); err != nil {
			return err
		}
		return tx.Delete(e.policyPath(name))
	})
	if err != nil {
		return api.Answer{}, err
	}
	e.forget(r, id)
	return api.Answer{}, nil
}

// forget deletes the versions that have lost their policy.
func (e engine) forget(r *api.Request, id string) {
	if _, err := r.Store.DeleteFolder(r.Context, e.folder(id)); err != nil {
		r.Frame.Log().Warn("versions of a deleted key are still in the store, and will be deleted later", "mount", r.Mount.UUID, "error", err)
	}
}

// change has an existing key's policy edited and answers with the key.
func change(edit func(r *api.Request, p *policy) (warnings []string, err error)) func(*api.Request, *storage.Tx) (api.Answer, error) {
	return func(r *api.Request, tx *storage.Tx) (a api.Answer, err error) {
		e, name := of(r)
		p, err := e.policy(tx, name)
		if err == nil && p == nil {
			err = errNoKey(name)
		}
		if err != nil {
			return a, err
		}
		was := *p
		if a.Warnings, err = edit(r, p); err != nil {
			return api.Answer{}, err
		}
		if *p != was {
			if err := e.putPolicy(tx, name, p); err != nil {
				return api.Answer{}, err
			}
		}
		k, err := e.load(tx, name)
		if err == nil {
			a.Data, err = k.show(tx, nil)
		}
		return a, err
	}
}

func errNoKey(name string) error {
	return api.Invalid.Errorf("no existing key named %s could be found", name)
}

func softDelete(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return change(func(r *api.Request, p *policy) (warnings []string, err error) {
		if p.SoftDeleted {
			warnings = []string{"key was already marked as soft deleted"}
		}
		p.SoftDeleted = true
		e, _ := of(r)
		others, err := e.others(r, tx, p.ID)
		for _, u := range others {
			warnings = append(warnings, fmt.Sprintf("the token with the accessor %s (%s) used the key at %s, and still works", u.Accessor, u.DisplayName, u.LastUse.Format(time.RFC3339)))
		}
		return warnings, err
	})(r, tx)
}

func softRestore(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return change(func(_ *api.Request, p *policy) (warnings []string, err error) {
		if !p.SoftDeleted {
			warnings = []string{"key was already restored"}
		}
		p.SoftDeleted = false
		return warnings, nil
	})(r, tx)
}

// keyConfigInput is the body of a change of a key's settings. What is nil stays.
type keyConfigInput struct {
	MinDecryption        *int           `json:"min_decryption_version"`
	MinEncryption        *int           `json:"min_encryption_version"`
	DeletionAllowed      *bool          `json:"deletion_allowed"`
	Exportable           *bool          `json:"exportable"`
	AllowPlaintextBackup *bool          `json:"allow_plaintext_backup"`
	AutoRotate           *time.Duration `json:"auto_rotate_period"`
}

func configure(r *api.Request, tx *storage.Tx, in *keyConfigInput) (api.Answer, error) {
	return change(func(_ *api.Request, p *policy) ([]string, error) { return in.apply(p) })(r, tx)
}

func (in *keyConfigInput) apply(p *policy) (warnings []string, err error) {
	was := *p
	if in.MinDecryption != nil {
		n := *in.MinDecryption
		if n == 0 {
			n = 1
			warnings = []string{"since Vault 0.3, transit key numbering starts at 1; forcing minimum to 1"}
		}
		switch {
		case n < 0:
			return nil, api.Invalid.Errorf("min decryption version cannot be negative")
		case n > p.Latest:
			return nil, api.Invalid.Errorf("cannot set min decryption version of %d, latest key version is %d", n, p.Latest)
		}
		p.MinDecryption = n
	}
	if in.MinEncryption != nil {
		switch n := *in.MinEncryption; {
		case n < 0:
			return nil, api.Invalid.Errorf("min encryption version cannot be negative")
		case n > p.Latest:
			return nil, api.Invalid.Errorf("cannot set min encryption version of %d, latest key version is %d", n, p.Latest)
		}
		p.MinEncryption = *in.MinEncryption
	}
	if p.MinEncryption > 0 && p.MinEncryption < p.MinDecryption {
		return nil, api.Invalid.Errorf("cannot set min encryption/decryption values; min encryption version of %d must be greater than or equal to min decryption version of %d",
			p.MinEncryption, p.MinDecryption)
	}
	if in.DeletionAllowed != nil {
		p.DeletionAllowed = *in.DeletionAllowed
	}
	// What allows a key to leave is never taken back: it may have left.
	p.Exportable = p.Exportable || in.Exportable != nil && *in.Exportable
	p.AllowPlaintextBackup = p.AllowPlaintextBackup || in.AllowPlaintextBackup != nil && *in.AllowPlaintextBackup
	if in.AutoRotate != nil {
		if err := checkAutoRotate(*in.AutoRotate); err != nil {
			return nil, err
		}
		p.AutoRotate = *in.AutoRotate
	}
	switch {
	case *p == was:
	case p.MinAvailable > p.MinEncryption:
		return nil, api.Invalid.Errorf("min encryption version should not be less than min available version")
	case p.MinAvailable > p.MinDecryption:
		return nil, api.Invalid.Errorf("min decryption version should not be less then min available version")
	}
	return warnings, nil
}

func rotate(r *api.Request, _ *api.None) (a api.Answer, err error) {
	e, name := of(r)
	if err := e.rotate(name, r.View, r.Update, r.Frame.Time, nil); err != nil {
		return a, err
	}
	return a, e.tell(r, name, nil, &a)
}

// rotate adds a version to a key, in transactions that view and update run. due, if
// not nil, says whether a key is to be rotated at all.
func (e engine) rotate(name string, view, update func(func(*storage.Tx) error) error, now func() time.Time, due func(*policy) bool) error {
	for {
		var p *policy
		check := func(tx *storage.Tx) (err error) {
			if p, err = e.policy(tx, name); err != nil {
				return err
			}
			switch {
			case p == nil && due != nil || due != nil && !due(p):
				p = nil
				return nil
			case p == nil:
				return api.Invalid.Errorf("key not found")
			case p.SoftDeleted:
				return errSoftDeleted
			case p.Imported && !p.AllowRotation:
				return api.Invalid.Errorf("imported key %s does not allow rotation within Vault", name)
			}
			return nil
		}
		if err := view(check); err != nil || p == nil {
			return err
		}
		made := *p
		v, err := generate(&made)
		if err != nil {
			return err
		}
		changed := false
		err = update(func(tx *storage.Tx) error {
			if err := check(tx); err != nil || p == nil {
				return err
			}
			if changed = p.ID != made.ID; changed {
				return nil
			}
			p.Imported = false
			fresh := *v
			return e.add(tx, name, p, &fresh, now())
		})
		if err != nil || !changed {
			return err
		}
	}
}

type trimInput struct {
	MinAvailable *int `json:"min_available_version"`
}

// trimMost is how many versions one transaction deletes: some milliseconds' worth,
// for which other writers wait.
const trimMost = 1000

func trim(r *api.Request, in *trimInput) (a api.Answer, err error) {
	if in.MinAvailable == nil {
		return a, api.Invalid.Errorf("missing min_available_version")
	}
	e, name := of(r)
	for more := true; more; {
		err := r.Update(func(tx *storage.Tx) error {
			p, err := e.policy(tx, name)
			if err == nil && p == nil {
				err = api.Invalid.Errorf("invalid key name")
			}
			if err == nil {
				err = p.trim(*in.MinAvailable)
			}
			if err != nil {
				return err
			}
			if more, err = e.shorten(tx, p); err != nil {
				return err
			}
			return e.putPolicy(tx, name, p)
		})
		if err != nil {
			return a, err
		}
	}
	return a, e.tell(r, name, nil, &a)
}

func (p *policy) trim(n int) error {
	switch {
	case n < p.MinAvailable:
		return api.Invalid.Errorf("minimum available version cannot be decremented")
	case p.MinEncryption == 0:
		return api.Invalid.Errorf("minimum available version cannot be set when minimum encryption version is not set")
	case n > p.MinEncryption:
		return api.Invalid.Errorf("minimum available version cannot be greater than minmum encryption version")
	case n > p.MinDecryption:
		return api.Invalid.Errorf("minimum available version cannot be greater than minimum decryption version")
	case n < 0:
		return api.Invalid.Errorf("minimum available version cannot be negative")
	case n == 0:
		return api.Invalid.Errorf("minimum available version should be positive")
	}
	p.MinAvailable = n
	return nil
}

// shorten deletes versions that are not available any more, some of them if there
// are many; more says that there are others. The policy is to be written.
func (e engine) shorten(tx *storage.Tx, p *policy) (more bool, err error) {
	end := min(p.MinAvailable, p.First+trimMost)
	for ; p.First < end; p.First++ {
		if err := tx.Delete(e.versionPath(p.ID, p.First)); err != nil {
			return false, fmt.Errorf("removing version %d of a key: %w", p.First, err)
		}
	}
	return p.First < p.MinAvailable, nil
}

func readConfig(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	e, _ := of(r)
	c, err := e.config(tx)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: c}, nil
}

func (e engine) config(tx *storage.Tx) (c config, err error) {
	_, err = get(tx, e.configPath(), &c)
	return c, err
}

type configInput struct {
	DisableUpsert bool `json:"disable_upsert"`
}

func writeConfig(r *api.Request, tx *storage.Tx, in *configInput) (api.Answer, error) {
	e, _ := of(r)
	c := config(*in)
	if err := put(tx, e.configPath(), c); err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: c}, nil
}
