package transit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// A backup is what Vault and OpenBao make of a key and restore it from, so that keys
// move both ways: base64 of JSON. The versions that may be used are in the policy, by
// their numbers; all that are available are in the archive, the first of them at the
// place 0, which is empty where min_available_version was never set.
type backup struct {
	Policy  *backupPolicy  `json:"policy"`
	Archive *backupArchive `json:"archived_keys"`
}

type backupArchive struct {
	Keys []backupEntry `json:"keys"`
}

type backupPolicy struct {
	Name                 string                 `json:"name"`
	Key                  []byte                 `json:"key,omitempty"` // of the first Vaults, which had one version
	KeySize              int                    `json:"key_size,omitempty"`
	Keys                 map[string]backupEntry `json:"keys"`
	Derived              bool                   `json:"derived"`
	KDF                  int                    `json:"kdf"` // 0: counter mode, 1: HKDF
	Convergent           bool                   `json:"convergent_encryption"`
	Exportable           bool                   `json:"exportable"`
	MinDecryption        int                    `json:"min_decryption_version"`
	MinEncryption        int                    `json:"min_encryption_version"`
	Latest               int                    `json:"latest_version"`
	ArchiveVersion       int                    `json:"archive_version"`
	ArchiveMin           int                    `json:"archive_min_version"`
	MinAvailable         int                    `json:"min_available_version"`
	DeletionAllowed      bool                   `json:"deletion_allowed"`
	ConvergentVersion    int                    `json:"convergent_version"` // of versions that have none; -1: there are none
	Type                 int                    `json:"type"`
	Backup               *event                 `json:"backup_info"`
	Restore              *event                 `json:"restore_info"`
	AllowPlaintextBackup bool                   `json:"allow_plaintext_backup"`
	VersionTemplate      string                 `json:"version_template"`
	StoragePrefix        string                 `json:"storage_prefix"`
	AutoRotate           time.Duration          `json:"auto_rotate_period"`
	Imported             bool
	AllowRotation        bool `json:"AllowImportedKeyRotation"`
	SoftDeleted          bool `json:"soft_deleted"`
}

type backupEntry struct {
	Key        []byte     `json:"key"`
	HMAC       []byte     `json:"hmac_key"`
	Time       time.Time  `json:"time"`
	X          *number    `json:"ec_x"`
	Y          *number    `json:"ec_y"`
	D          *number    `json:"ec_d"`
	RSA        *backupRSA `json:"rsa_key"`
	RSAPublic  *backupRSA `json:"rsa_public_key"`
	Public     string     `json:"public_key"`
	Convergent int        `json:"convergent_version"`
	Created    int64      `json:"creation_time"`
	Chain      [][]byte   `json:"certificate_chain"`
}

// A backupRSA is an RSA key as encoding/json writes those of crypto/rsa.
type backupRSA struct {
	N           *number
	E           int
	D           *number           `json:",omitempty"`
	Primes      []*number         `json:",omitempty"`
	Precomputed *backupPrecompute `json:",omitempty"`
}

// A backupPrecompute speeds Vault up; it is not read.
type backupPrecompute struct {
	Dp, Dq, Qinv *number
	CRTValues    []struct{}
}

// A number is a large one.
type number struct{ big.Int }

// maxDigits is more than any number of a key has.
const maxDigits = 2000

// UnmarshalJSON reads a number of decimal digits.
func (n *number) UnmarshalJSON(b []byte) error {
	if len(b) > maxDigits {
		return errors.New("a number has too many digits")
	}
	return n.Int.UnmarshalJSON(b)
}

func numberOf(n *big.Int) *number {
	var of number
	of.Set(n)
	return &of
}

// vaultHMAC is the number that hmac keys have in Vault, which is that of
// xchacha20-poly1305 in OpenBao. The two differ: the key of an hmac key is also its
// HMAC key. Backups made here have OpenBao's.
const vaultHMAC = 11

// kind is the type of a backup's key, nil when there is none of the number.
func (b *backup) kind() *kind {
	same := b.Policy.Type == vaultHMAC && len(b.Policy.Keys) > 0
	for _, v := range b.Policy.Keys {
		same = same && len(v.Key) > 0 && bytes.Equal(v.Key, v.HMAC)
	}
	if same {
		return kindOf("hmac")
	}
	for _, k := range kinds {
		if k.number == b.Policy.Type {
			return k
		}
	}
	return nil
}

// parseBackup reads a backup. An error is for the client, and has nothing of it.
func parseBackup(text string) (name string, p *policy, versions map[int]*record, err error) {
	fail := func(err error) (string, *policy, map[int]*record, error) {
		return "", nil, nil, api.Invalid.Errorf("the backup cannot be restored: %v", err)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fail(err)
	}
	var b backup
	if json.Unmarshal(raw, &b) != nil || b.Policy == nil {
		return fail(errors.New("it is not what backup/ answers"))
	}
	k := b.kind()
	if k == nil {
		return fail(fmt.Errorf("there are no keys of its type %d here", b.Policy.Type))
	}
	p, err = b.Policy.policy(k)
	if err != nil {
		return fail(err)
	}
	entries, lowest, err := b.entries(p)
	if err != nil {
		return fail(err)
	}
	if p.First = lowest; lowest > 1 {
		p.MinAvailable = max(p.MinAvailable, lowest)
	}
	versions = make(map[int]*record)
	for n := lowest; n <= p.Latest; n++ {
		v, err := entries[n].record(p, k)
		if err == nil {
			_, err = (&key{policy: *p, kind: k}).parse(n, v)
		}
		if err != nil {
			return fail(fmt.Errorf("version %d: %w", n, err))
		}
		if v.Convergent == 0 && p.Convergent {
			v.Convergent = max(b.Policy.ConvergentVersion, 1)
		}
		versions[n] = v
	}
	p.Rotated = versions[p.Latest].Created
	return b.Policy.Name, p, versions, nil
}

func (b *backupPolicy) policy(k *kind) (*policy, error) {
	p := &policy{
		ID: storage.NewUUID(), Type: k.name, Derived: b.Derived, Convergent: b.Convergent, Exportable: b.Exportable, AllowPlaintextBackup: b.AllowPlaintextBackup,
		DeletionAllowed: b.DeletionAllowed, SoftDeleted: b.SoftDeleted, Imported: b.Imported, AllowRotation: b.AllowRotation, KeySize: b.KeySize,
		Latest: b.Latest, MinDecryption: max(b.MinDecryption, 1), MinEncryption: b.MinEncryption, MinAvailable: b.MinAvailable, First: 1,
		AutoRotate: b.AutoRotate, Backup: b.Backup,
	}
	if len(b.Key) > 0 && len(b.Keys) == 0 {
		b.Keys = map[string]backupEntry{"1": {Key: b.Key}}
	}
	if p.Latest == 0 {
		p.Latest = len(b.Keys)
	}
	if b.Derived {
		p.KDF = kdfHKDF
		if b.KDF == 0 {
			p.KDF = kdfCounter
		}
	}
	if b.VersionTemplate != "" {
		return nil, errors.New("it has a version_template, which keys here have not")
	}
	if p.AutoRotate < 0 || b.KDF < 0 || b.KDF > 1 || p.Latest > maxRestored {
		return nil, errors.New("its settings are out of range")
	}
	return p, p.check()
}

// maxRestored is how many versions a restored key has at most: they are written in
// one transaction.
const maxRestored = 20_000

// entries are the versions of a backup, from the lowest on from which none is missing.
func (b *backup) entries(p *policy) (entries map[int]*backupEntry, lowest int, err error) {
	entries = make(map[int]*backupEntry)
	if b.Archive != nil {
		for i := range b.Archive.Keys {
			entries[i+p.MinAvailable] = &b.Archive.Keys[i]
		}
	}
	for number, v := range b.Policy.Keys {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > p.Latest {
			return nil, 0, fmt.Errorf("it has a version %.20q", number)
		}
		entries[n] = &v
	}
	lowest = p.Latest + 1
	for lowest > max(p.MinAvailable, 1) && !entries[lowest-1].empty() {
		lowest--
	}
	if lowest > p.MinDecryption {
		return nil, 0, fmt.Errorf("version %d is missing", lowest-1)
	}
	return entries, lowest, nil
}

func (v *backupEntry) empty() bool {
	return v == nil || len(v.Key) == 0 && v.D == nil && v.X == nil && v.RSA == nil && v.RSAPublic == nil && v.Public == ""
}

// record is a version as it is stored.
func (v *backupEntry) record(p *policy, k *kind) (*record, error) {
	r := &record{Created: v.Time.UTC(), HMAC: v.HMAC, Convergent: v.Convergent, Chain: v.Chain}
	if v.Time.IsZero() {
		r.Created = time.Unix(v.Created, 0).UTC()
	}
	var private crypto.Signer
	var public crypto.PublicKey
	var err error
	switch {
	case k.hmac:
		r.Secret, r.HMAC = v.Key, nil
		if p.KeySize = len(v.Key); p.KeySize < hmacLeast || p.KeySize > hmacMost {
			return nil, fmt.Errorf("an hmac key of %d bytes", p.KeySize)
		}
		return r, nil
	case k.symmetric():
		r.Secret = v.Key
		return r, nil
	case k.ed25519:
		private, public, err = v.ed25519()
	case k.curve != nil:
		private, public, err = v.ecdsa(k)
	default:
		private, public, err = v.rsa(k)
	}
	switch {
	case err != nil:
		return nil, err
	case private != nil:
		err = r.set(p, private)
	default:
		r.Public, err = x509.MarshalPKIXPublicKey(public)
	}
	return r, err
}

var errPair = errors.New("its private and its public key do not belong together")

func (v *backupEntry) ed25519() (crypto.Signer, crypto.PublicKey, error) {
	switch len(v.Key) {
	case ed25519.PrivateKeySize:
		private := ed25519.PrivateKey(v.Key)
		// A signature with the public key of another would give the private key away.
		if !ed25519.NewKeyFromSeed(private.Seed()).Equal(private) {
			return nil, nil, errPair
		}
		return private, nil, nil
	case 0:
		public, err := base64.StdEncoding.DecodeString(v.Public)
		if err == nil && len(public) != ed25519.PublicKeySize {
			err = fmt.Errorf("a public key of %d bytes", len(public))
		}
		return nil, ed25519.PublicKey(public), err
	}
	return nil, nil, fmt.Errorf("an ed25519 key of %d bytes", len(v.Key))
}

func (v *backupEntry) ecdsa(k *kind) (crypto.Signer, crypto.PublicKey, error) {
	size := (k.curve.Params().BitSize + 7) / 8
	for _, n := range []*number{v.X, v.Y, v.D} {
		if n != nil && (n.Sign() < 0 || n.BitLen() > 8*size) {
			return nil, nil, errors.New("a number that is not of its curve")
		}
	}
	if v.X == nil || v.Y == nil {
		return nil, nil, errors.New("a key without its public half")
	}
	point := append([]byte{4}, v.X.FillBytes(make([]byte, size))...)
	point = append(point, v.Y.FillBytes(make([]byte, size))...)
	public, err := ecdsa.ParseUncompressedPublicKey(k.curve, point)
	if err != nil || v.D == nil {
		return nil, public, err
	}
	private, err := ecdsa.ParseRawPrivateKey(k.curve, v.D.FillBytes(make([]byte, size)))
	if err != nil {
		return nil, nil, err
	}
	if !private.PublicKey.Equal(public) {
		return nil, nil, errPair
	}
	return private, nil, nil
}

func (v *backupEntry) rsa(k *kind) (crypto.Signer, crypto.PublicKey, error) {
	of := v.RSA
	if of == nil {
		of = v.RSAPublic
	}
	if of == nil || of.N == nil {
		return nil, nil, errors.New("a key without its modulus")
	}
	public := rsa.PublicKey{N: &of.N.Int, E: of.E}
	if err := k.check(&public); err != nil {
		return nil, nil, err
	}
	if v.RSA == nil {
		return nil, &public, nil
	}
	private := &rsa.PrivateKey{PublicKey: public}
	if of.D == nil || len(of.Primes) != 2 {
		return nil, nil, errors.New("a private key without its exponent and two primes")
	}
	private.D = &of.D.Int
	for _, prime := range of.Primes {
		if prime == nil || prime.Sign() <= 0 || prime.BitLen() < 2 || prime.BitLen() > k.bits {
			return nil, nil, errPair
		}
		private.Primes = append(private.Primes, &prime.Int)
	}
	if private.D.Sign() <= 0 || private.D.BitLen() > k.bits || new(big.Int).Mul(private.Primes[0], private.Primes[1]).Cmp(public.N) != 0 {
		return nil, nil, errPair
	}
	private.Precompute()
	if err := private.Validate(); err != nil {
		return nil, nil, errPair
	}
	return private, nil, nil
}

type restoreInput struct {
	Backup string `json:"backup"`
	Name   string `json:"name"`
	Force  bool   `json:"force"`
}

func restore(r *api.Request, in *restoreInput) (a api.Answer, err error) {
	if in.Backup == "" {
		return a, api.Invalid.Errorf("'backup' must be supplied")
	}
	e, name := of(r)
	if name == "" {
		name = in.Name
	}
	if strings.Contains(name, "/") {
		return a, api.Invalid.Errorf("key names cannot be paths")
	}
	own, p, versions, err := parseBackup(in.Backup)
	if err != nil {
		return a, err
	}
	if name == "" {
		name = own
	}
	if err := checkName(name); err != nil {
		return a, err
	}
	replaced := ""
	err = r.Update(func(tx *storage.Tx) error {
		old, err := e.policy(tx, name)
		switch {
		case err != nil && !in.Force:
			return err
		case old != nil && !in.Force:
			return api.Invalid.Errorf("key %q already exists", name)
		}
		if replaced = ""; old != nil {
			replaced = old.ID
		}
		for n, v := range versions {
			if err := e.putVersion(tx, p, n, v); err != nil {
				return err
			}
		}
		p := *p
		p.Restore = &event{r.Now.UTC(), p.Latest}
		return e.putPolicy(tx, name, &p)
	})
	if err != nil {
		return a, err
	}
	if replaced != "" {
		e.forget(r, replaced)
	}
	return a, nil
}

func makeBackup(r *api.Request, _ *api.None) (api.Answer, error) {
	e, name := of(r)
	var text []byte
	err := r.Update(func(tx *storage.Tx) error {
		p, err := e.policy(tx, name)
		switch {
		case err != nil:
			return err
		case p == nil:
			return api.Invalid.Errorf("key %q not found", name)
		case p.SoftDeleted:
			return errSoftDeleted
		case !p.Exportable:
			return api.Invalid.Errorf("exporting is disallowed on the policy")
		case !p.AllowPlaintextBackup:
			return api.Invalid.Errorf("plaintext backup is disallowed on the policy")
		}
		p.Backup = &event{r.Now.UTC(), p.Latest}
		b, err := e.backup(tx, name, p)
		if err != nil {
			return err
		}
		if text, err = json.Marshal(b); err != nil {
			return fmt.Errorf("encoding a backup: %w", err)
		}
		return e.putPolicy(tx, name, p)
	})
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: map[string]string{"backup": base64.StdEncoding.EncodeToString(text)}}, nil
}

// backup is that of a key.
func (e engine) backup(tx *storage.Tx, name string, p *policy) (*backup, error) {
	k := kindOf(p.Type)
	b := &backupPolicy{
		Name: name, KeySize: p.KeySize, Keys: make(map[string]backupEntry), Derived: p.Derived, Convergent: p.Convergent, Exportable: p.Exportable,
		MinDecryption: p.MinDecryption, MinEncryption: p.MinEncryption, Latest: p.Latest, ArchiveVersion: p.Latest, ArchiveMin: p.MinAvailable, MinAvailable: p.MinAvailable,
		DeletionAllowed: p.DeletionAllowed, Type: k.number, Backup: p.Backup, Restore: p.Restore, AllowPlaintextBackup: p.AllowPlaintextBackup,
		AutoRotate: p.AutoRotate, Imported: p.Imported, AllowRotation: p.AllowRotation, SoftDeleted: p.SoftDeleted,
	}
	if p.KDF == kdfHKDF {
		b.KDF = 1
	}
	if p.Convergent {
		b.ConvergentVersion = -1
	}
	archive := make([]backupEntry, p.Latest-p.MinAvailable+1)
	for n := max(p.MinAvailable, 1); n <= p.Latest; n++ {
		r, err := e.record(tx, p.ID, n)
		if err == nil && r == nil {
			err = fmt.Errorf("%w: it is missing", storage.ErrCorrupt)
		}
		var v *version
		if err == nil {
			v, err = (&key{policy: *p, kind: k}).parse(n, r)
		}
		if err != nil {
			return nil, fmt.Errorf("backing up version %d of the key %q: %w", n, name, err)
		}
		entry := v.entry(k, r)
		archive[n-p.MinAvailable] = entry
		if n >= p.MinDecryption {
			b.Keys[strconv.Itoa(n)] = entry
		}
	}
	return &backup{b, &backupArchive{archive}}, nil
}

// entry is a version as a backup has it.
func (v *version) entry(k *kind, r *record) backupEntry {
	b := backupEntry{HMAC: v.hmac, Time: r.Created, Created: r.Created.Unix(), Convergent: r.Convergent, Chain: r.Chain}
	if v.public == nil || k.ed25519 {
		b.Key = r.Secret
	}
	if k.ed25519 {
		public, ok := v.public.(ed25519.PublicKey)
		if !ok { // derived
			public = ed25519.PrivateKey(r.Secret).Public().(ed25519.PublicKey)
		}
		b.Public = base64.StdEncoding.EncodeToString(public)
	}
	switch public := v.public.(type) {
	case *ecdsa.PublicKey:
		b.Public = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: r.Public}))
		if point, err := public.Bytes(); err == nil { // what was parsed is on its curve
			half := len(point) / 2
			b.X, b.Y = numberOf(new(big.Int).SetBytes(point[1:1+half])), numberOf(new(big.Int).SetBytes(point[1+half:]))
		}
	case *rsa.PublicKey:
		if v.private == nil {
			b.RSAPublic = &backupRSA{N: numberOf(public.N), E: public.E}
		}
	}
	switch private := v.private.(type) {
	case *ecdsa.PrivateKey:
		if d, err := private.Bytes(); err == nil {
			b.D = numberOf(new(big.Int).SetBytes(d))
		}
	case *rsa.PrivateKey:
		pre := private.Precomputed
		b.RSA = &backupRSA{N: numberOf(private.N), E: private.E, D: numberOf(private.D),
			Precomputed: &backupPrecompute{numberOf(pre.Dp), numberOf(pre.Dq), numberOf(pre.Qinv), []struct{}{}}}
		for _, prime := range private.Primes {
			b.RSA.Primes = append(b.RSA.Primes, numberOf(prime))
		}
	}
	return b
}
