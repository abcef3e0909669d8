package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

func transitCommands() []command {
	return []command{
		{"transit unseal-key", "NAME", 1, 1, client, "make a key that opens another keep or Vault", transitUnsealKeyHelp, transitUnsealKey},
		{"transit uses", "KEY", 1, 1, client, "show who uses a transit key", transitUsesHelp, transitUses},
		{"transit policy", "KEY", 1, 1, local, "print the least policy for a client of transit", transitPolicyHelp, transitPolicy},
		{"transit export", "KEY", 1, 1, client, "take a transit key out of a keep, or of its store", transitExportHelp, transitExport},
		{"transit convert-state", "FILE", 1, 1, local, "convert what transit has encrypted, without a keep", transitConvertHelp, transitConvert},
	}
}

const transitUnsealKeyHelp = `Makes what the seal "transit" of another keep, Vault or OpenBao needs: a key that cannot be exported or deleted, a policy
that allows to encrypt and decrypt with it, and an orphan, periodic token with that policy. It prints the block for the
other's configuration. The token is shown once.

A key, and a policy of the same text, that are there already stay as they are: then only a token is made. The token ends
when nobody renews it for a whole period, so the period must outlast every time for which the other is switched off.`

const transitUsesHelp = `Shows the tokens that have used the KEY, the last first, and whether each still works. The keep deletes a key that another
token has used within 30 days, and which still works, only after the key was soft-deleted. What was used in the last
minutes before the keep was stopped or sealed may be missing.`

// mountFlag is where the engine is mounted.
func mountFlag(f *flag.FlagSet) *string {
	return f.String("mount", "transit", "`path` at which the engine is mounted")
}

// keyPath is a path of the engine.
func keyPath(mount string, parts ...string) string {
	return strings.Join(append([]string{strings.Trim(mount, "/")}, parts...), "/")
}

// noMount adds the next step to the answer of a keep that has no engine at the path.
func noMount(err error, mount string) error {
	e, ok := errors.AsType[*apiError](err)
	if ok && e.code == http.StatusNotFound && strings.Contains(strings.Join(e.errors, " "), "no handler for route") {
		return coded{hint(fmt.Errorf("there is no transit engine at %s", mount), "sealkeep secrets enable -path=%s transit mounts one", strings.Trim(mount, "/")), 2}
	}
	return err
}

// A transitKey is what reading a key tells, as far as it is needed here.
type transitKey struct {
	Type            string `json:"type"`
	Derived         bool   `json:"derived"`
	Exportable      bool   `json:"exportable"`
	PlaintextBackup bool   `json:"allow_plaintext_backup"`
	DeletionAllowed bool   `json:"deletion_allowed"`
	SoftDeleted     bool   `json:"soft_deleted"`
	Encrypts        bool   `json:"supports_encryption"`
}

func transitUnsealKey(f *flag.FlagSet) action {
	mount := mountFlag(f)
	period := f.String("period", "768h", "`duration` for which the token lives unless it is renewed")
	policy := f.String("policy", "", "`name` of the policy (default: NAME with unseal- before it)")
	return func(c *cli, args []string) error {
		name := args[0]
		if d, err := duration(*period); err != nil || d == 0 {
			return hint(fmt.Errorf("the period %q is wrong", *period), "-period is a number of seconds or a duration such as 768h")
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		rules, err := transitPolicies["unseal"].text(*mount, name)
		if err != nil {
			return err
		}
		if err := c.makeUnsealKey(a.plain(), *mount, name); err != nil {
			return noMount(err, *mount)
		}
		*policy = policyName(cmp.Or(*policy, "unseal-"+name))
		if err := c.makePolicy(a.plain(), *policy, rules); err != nil {
			return err
		}
		b, err := a.do(c, http.MethodPost, "auth/token/create", nil, object{
			"policies": []string{*policy}, "period": *period, "no_parent": true, "display_name": "unseal-" + name,
		})
		if err != nil {
			return err
		}
		s, err := decodeSecret(b)
		if err != nil {
			return err
		}
		c.warnings(s)
		token, _ := s.Auth["client_token"].(string)
		block := blockForOther(a, cmp.Or(c.remote.caCert, c.env("CACERT")), *mount, name, token)
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printValue(object{"key_name": name, "mount_path": strings.Trim(*mount, "/") + "/", "policy": *policy,
				"token": token, "token_accessor": s.Auth["accessor"], "token_period": s.Auth["lease_duration"], "hcl": block})
		}
		fmt.Fprint(c.stdout, block)
		if thisMachine(a.base) {
			c.warnf("%s is this machine's own address: in the block, write the one under which the other reaches this keep", a.address)
		}
		fmt.Fprintf(c.stderr, "sealkeep: hint: the token is shown once; its accessor is %s. After a start of the other, sealkeep doctor there checks the seal, and sealkeep transit uses %s here shows who uses the key\n", text(s.Auth["accessor"]), name)
		return nil
	}
}

// makeUnsealKey makes the key, unless it is there, and says what may be wrong with one that is.
func (c *cli) makeUnsealKey(a *keepClient, mount, name string) error {
	b, err := a.do(c, http.MethodPut, keyPath(mount, "keys", name), nil, object{"type": "aes256-gcm96", "exportable": false})
	if err != nil {
		return err
	}
	var answer struct {
		Data     transitKey
		Warnings []string
	}
	if err := decode(b, &answer); err != nil {
		return err
	}
	k := answer.Data
	switch {
	case !k.Encrypts || k.Derived:
		return hint(fmt.Errorf("the key %s is there, but no seal can use it: its type is %s, derived: %t", name, k.Type, k.Derived), "choose another name")
	case k.SoftDeleted:
		return hint(fmt.Errorf("the key %s is soft-deleted", name), "sealkeep write -f %s brings it back", keyPath(mount, "keys", name, "soft-delete-restore"))
	case len(answer.Warnings) > 0:
		c.warnf("the key %s is there already and stays as it is", name)
	}
	if k.Exportable || k.PlaintextBackup {
		c.warnf("the key %s may be exported or backed up in plaintext, which cannot be taken back", name)
	}
	if k.DeletionAllowed {
		c.warnf("the key %s may be deleted: sealkeep write %s deletion_allowed=false forbids it", name, keyPath(mount, "keys", name, "config"))
	}
	return nil
}

// makePolicy writes a policy, unless one of the name is there; that must have the same text.
func (c *cli) makePolicy(a *keepClient, name, text string) error {
	b, err := a.do(c, http.MethodGet, "sys/policies/acl/"+name, nil, nil)
	if notFound(err) {
		_, err = a.do(c, http.MethodPut, "sys/policies/acl/"+name, nil, object{"policy": text})
		return err
	}
	if err != nil {
		return err
	}
	var is struct {
		Data struct{ Policy string }
	}
	if err := decode(b, &is); err != nil {
		return err
	}
	if strings.TrimSpace(is.Data.Policy) != strings.TrimSpace(text) {
		return hint(fmt.Errorf("the policy %s is there with another text", name), "sealkeep policy read %s shows it; -policy gives another name", name)
	}
	return nil
}

// thisMachine reports whether an address means this machine wherever it is used.
func thisMachine(u *url.URL) bool {
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// blockForOther is what the other's configuration needs.
func blockForOther(a *keepClient, ca, mount, key, token string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seal \"transit\" {\n  address    = %q\n  token      = %q\n  mount_path = %q\n  key_name   = %q\n", a.address, token, strings.Trim(mount, "/")+"/", key)
	if a.base.Scheme == "https" {
		line := fmt.Sprintf("  tls_ca_cert = %q\n", cmp.Or(ca, "/path/to/ca.pem"))
		if ca == "" {
			line = "# " + line[2:]
		}
		b.WriteString("\n" + line)
	}
	b.WriteString("}\n")
	return b.String()
}

// A clientPolicy is what one client of the engine calls.
type clientPolicy struct {
	who   string
	rules []rule
	note  string // for the reader of the policy
}

// A rule is one path of a policy. "KEY" in it stands for the key, "MOUNT" for the engine.
type rule struct {
	path string
	caps string // separated by commas
}

// transitPolicies are the least policies, by what -for takes.
var transitPolicies = map[string]clientPolicy{
	"unseal": {"the seal \"transit\" of a keep, Vault or OpenBao", []rule{{"MOUNT/encrypt/KEY", "update"}, {"MOUNT/decrypt/KEY", "update"}},
		"The policy default lets the token renew itself and look at itself."},
	"sops": {"SOPS (hc_vault)", []rule{{"MOUNT/encrypt/KEY", "update"}, {"MOUNT/decrypt/KEY", "update"}},
		"Who only reads files needs decrypt alone."},
	"tofu": {"OpenTofu's key providers openbao and external (sealkeep tofu-key-provider)", []rule{{"MOUNT/datakey/plaintext/KEY", "update"}, {"MOUNT/decrypt/KEY", "update"}}, ""},
	"cosign": {"cosign and what else has sigstore's hashivault", []rule{{"MOUNT/keys/KEY", "read,update"}, {"MOUNT/sign/KEY/+", "update"}, {"MOUNT/verify/KEY/+", "update"}},
		"update on the key itself makes it when it is not there, and changes nothing otherwise; whoever only verifies needs neither that nor sign."},
	"k8s":   {"Kubernetes, by a KMS version 2 plugin", []rule{{"MOUNT/encrypt/KEY", "update"}, {"MOUNT/decrypt/KEY", "update"}, {"MOUNT/keys/KEY", "read"}, {"sys/mounts", "read"}}, ""},
	"flux":  {"Flux, which decrypts what SOPS has encrypted", []rule{{"MOUNT/decrypt/KEY", "update"}}, ""},
	"spire": {"SPIRE's key manager, which makes keys under names of its own", []rule{{"MOUNT/keys", "list"}, {"MOUNT/keys/KEY", "read,update"}, {"MOUNT/sign/KEY/+", "update"}}, "Give it an engine of its own, with + for KEY."},
	"ceph":  {"Ceph RGW, SSE-KMS", []rule{{"MOUNT/datakey/plaintext/KEY", "update"}, {"MOUNT/decrypt/KEY", "update"}}, ""},
	"ceph-s3": {"Ceph RGW, SSE-S3, which makes a key for each bucket and deletes it", []rule{{"MOUNT/datakey/plaintext/KEY", "update"}, {"MOUNT/decrypt/KEY", "update"}, {"MOUNT/keys/KEY", "update,delete"},
		{"MOUNT/keys/KEY/config", "update"}}, "Give it an engine of its own, with + for KEY."},
}

// transitClients are the names of transitPolicies in the order of the help.
var transitClients = []string{"unseal", "sops", "tofu", "cosign", "k8s", "flux", "spire", "ceph", "ceph-s3"}

// text is the policy for a key of a mount.
func (p clientPolicy) text(mount, key string) (string, error) {
	if strings.ContainsAny(key, "/*\"\\{}$% \t\n") || key == "" || key != "+" && strings.Contains(key, "+") {
		return "", hint(fmt.Errorf("%q is no name of a key", key), "KEY is one name, or + for every key of the engine")
	}
	if mount = strings.Trim(mount, "/"); mount == "" || strings.ContainsAny(mount, "*+\"\\{}$% \t\n") {
		return "", hint(fmt.Errorf("%q is no path of an engine", mount), "-mount is the path that sealkeep secrets list shows")
	}
	var b strings.Builder
	for _, r := range p.rules {
		path := strings.NewReplacer("MOUNT", mount, "KEY", key).Replace(r.path)
		fmt.Fprintf(&b, "path %q { capabilities = [\"%s\"] }\n", path, strings.ReplaceAll(r.caps, ",", `", "`))
	}
	_, err := access.ParsePolicy("", b.String())
	return b.String(), err
}

var transitPolicyHelp = func() string {
	var b strings.Builder
	b.WriteString("Prints the least policy for a client of the transit engine: what it calls with the KEY, and nothing else. It takes no server;\n" +
		"sealkeep policy write NAME - writes it. KEY may be + for all keys of the engine. -for takes:\n")
	for _, name := range transitClients {
		fmt.Fprintf(&b, "\n    %-10s %s", name, transitPolicies[name].who)
	}
	return b.String()
}()

func transitPolicy(f *flag.FlagSet) action {
	mount := mountFlag(f)
	client := f.String("for", "", "the `client`")
	return func(c *cli, args []string) error {
		p, ok := transitPolicies[*client]
		if !ok {
			return hint(fmt.Errorf("no policy is known for the client %q", *client), "-for is one of %s", strings.Join(transitClients, ", "))
		}
		text, err := p.text(*mount, args[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "# %s\n%s", p.who, text)
		if p.note != "" {
			fmt.Fprintf(c.stderr, "sealkeep: hint: %s\n", p.note)
		}
		return nil
	}
}

func transitUses(f *flag.FlagSet) action {
	mount := mountFlag(f)
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodGet, keyPath(*mount, "keys", args[0], "uses"), nil, nil)
		if notFound(err) {
			return coded{fmt.Errorf("there is no key %s at %s", args[0], strings.Trim(*mount, "/")), 2}
		}
		if err != nil {
			return noMount(err, *mount)
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printJSON(b)
		}
		var answer struct {
			Data struct {
				Uses []struct {
					Accessor    string    `json:"accessor"`
					DisplayName string    `json:"display_name"`
					LastUse     time.Time `json:"last_use"`
					Works       bool      `json:"token_works"`
				}
			}
		}
		if err := decode(b, &answer); err != nil {
			return err
		}
		rows := [][]string{{"Last use", "Token's accessor", "Display name", "Token works"}}
		for _, u := range answer.Data.Uses {
			rows = append(rows, []string{u.LastUse.UTC().Format(time.RFC3339), u.Accessor, u.DisplayName, strconv.FormatBool(u.Works)})
		}
		if len(rows) == 1 {
			fmt.Fprintln(c.stdout, "No token is known to have used the key")
			return nil
		}
		table(c.stdout, rows)
		return nil
	}
}
