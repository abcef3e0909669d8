package seal

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// diagnose adds steps about the server, the connection and the token. It returns a client with the token, or nil if there
// is none, and whether the server knows the token.
func (v *vaultServer) diagnose(ctx context.Context, d *diagnosis) (c *vaultClient, known bool) {
	c, err := v.dial()
	if err != nil {
		d.fail("connection", err)
		return nil, false
	}
	t := c.http.Transport.(*http.Transport) // dial made it
	url := v.base.String()
	if v.base.Scheme == "unix" {
		url = "http://localhost"
	}
	body, ok := d.reach(ctx, t.Clone(), strings.TrimRight(url, "/")+"/v1/sys/seal-status", false)
	if !ok {
		return nil, false
	}
	var status struct {
		Sealed      *bool
		Initialized bool
		Version     string
	}
	if json.Unmarshal(body, &status) != nil || status.Sealed == nil {
		d.warn("server", "check that the address is that of a Vault or OpenBao, and not of something in front of it", "it does not say whether it is sealed")
	} else if *status.Sealed {
		d.fail("server", &Error{Kind: Unreachable, Text: "the server at " + v.where + " is sealed: unseal it"})
		return nil, false
	} else {
		d.ok("server", "version %s, unsealed", first(status.Version, "unknown"))
	}

	step, cancel := stepContext(ctx)
	defer cancel()
	c, err = v.open(step)
	if err != nil {
		d.fail("login", err)
		return nil, false
	}
	if v.settings["token"] == "" {
		d.ok("login", "the Kubernetes service account may log in to the role %s", v.settings["kube_auth_role"])
	}
	return c, v.diagnoseToken(step, d, c)
}

// diagnoseToken adds steps about the token's lifetime, and reports whether the server knows the token.
func (v *vaultServer) diagnoseToken(ctx context.Context, d *diagnosis, c *vaultClient) bool {
	t, err := c.lookUp(ctx, false)
	if refused(err) {
		d.warn("token", "let it look at itself, to know when it ends", "it may not be looked up")
		d.steps[len(d.steps)-1].Paste = vaultPolicy([]string{"auth/token/lookup-self"}, "read")
		return false
	}
	if err != nil {
		d.fail("token", fmt.Errorf("looking up the token: %w", err))
		return false
	}
	var facts, wrong []string
	seconds := func(n int64) string { return (time.Duration(n) * time.Second).String() }
	say := func(bad bool, fact string) {
		facts = append(facts, fact)
		if bad {
			wrong = append(wrong, fact)
		}
	}
	ttl := "it never ends"
	if t.TTL > 0 {
		ttl = "TTL " + seconds(t.TTL)
	}
	facts = append(facts, ttl)
	configured := v.settings["token"] != "" // a login would get a new one
	if t.TTL > 0 && configured {
		say(!t.Renewable, map[bool]string{true: "renewable", false: "not renewable"}[t.Renewable])
		say(t.Period == 0, map[bool]string{true: "not periodic, so it ends with its maximum TTL", false: "period " + seconds(t.Period)}[t.Period == 0])
		say(!t.Orphan, map[bool]string{true: "orphan", false: "not orphan, so it ends with its parent"}[t.Orphan])
		if t.ExplicitMaxTTL > 0 {
			ends, _ := t.ends()
			say(true, "explicit maximum TTL "+seconds(t.ExplicitMaxTTL)+", so it ends "+inDays(ends))
		} else {
			say(false, "no explicit maximum TTL")
		}
	}
	say(slices.Contains(t.Policies, "root"), "policies "+strings.Join(t.Policies, " "))
	text := strings.Join(facts, ", ")
	if len(wrong) == 0 {
		d.ok("token", "%s", text)
		return true
	}
	next := wantToken
	if slices.Contains(t.Policies, "root") {
		next += ", and with a policy for this one key: this one may do everything"
	}
	d.warn("token", next, "%s", text)
	return true
}

// denials adds to the last denied step what to do about the paths that the token was denied. everything says whether all
// requests were denied.
func (d *diagnosis) denials(paths []string, capability string, known, everything bool) {
	if len(paths) == 0 {
		return
	}
	next := "the server knows the token, so its policy lacks what is below"
	if !known && everything {
		next = "the server denies this token everything, so it has ended or was revoked: make a new one, with the policy below. " + wantToken
	}
	for i := len(d.steps) - 1; i >= 0; i-- {
		if s := &d.steps[i]; s.Class == string(AuthDenied) {
			s.Next, s.Paste = next, vaultPolicy(paths, capability)
			return
		}
	}
}

// vaultPolicy allows capability on paths.
func vaultPolicy(paths []string, capability string) []Paste {
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "path %q {\n  capabilities = [%q]\n}\n", p, capability)
	}
	return []Paste{{"the policy of the token", b.String()}}
}

func (s *transitEngine) diagnose(ctx context.Context, d *diagnosis) {
	c, known := s.server.diagnose(ctx, d)
	if c == nil {
		return
	}
	mount, name := strings.Trim(s.settings["mount_path"], "/"), s.settings["key_name"]
	ask := func(op, in, value, out string) (string, error) {
		ctx, cancel := stepContext(ctx)
		defer cancel()
		a, err := c.do(ctx, http.MethodPost, mount+"/"+op+"/"+name, "", map[string]string{in: value})
		if err != nil {
			return "", s.answer(op+"ing", err)
		}
		var data map[string]any
		_ = json.Unmarshal(a.Data, &data) // a missing field is ""
		got, _ := data[out].(string)
		return got, nil
	}
	var missing []string
	fails := func(op string, err error) {
		if d.fail(op, err).Class == string(AuthDenied) {
			missing = append(missing, mount+"/"+op+"/"+name)
		}
	}

	key := make([]byte, keySize)
	rand.Read(key) // never fails
	text := base64.StdEncoding.EncodeToString(key)
	wrapped, err := ask("encrypt", "plaintext", text, "ciphertext")
	parts := strings.Split(wrapped, ":")
	switch {
	case err != nil:
		fails("encrypt", err)
	case len(parts) != 3:
		d.fail("encrypt", &Error{Kind: Unreachable, Text: s.where + " does not answer as a Transit engine does: check mount_path"})
	default:
		d.ok("encrypt", "a data key was encrypted by version %s of the key %s", strings.TrimPrefix(parts[1], "v"), name)
	}
	none := len(parts) != 3
	if none { // no key made this blob: the server says so only to tokens that may decrypt
		wrapped = "vault:v1:" + base64.StdEncoding.EncodeToString(make([]byte, nonceSize+keySize+16))
	}
	plain, err := ask("decrypt", "ciphertext", wrapped, "plaintext")
	switch {
	case none && err != nil && classify(err) == BlobMismatch:
		d.ok("decrypt", "allowed; there was nothing to decrypt")
	case err != nil:
		fails("decrypt", err)
	case plain != text:
		d.fail("decrypt", mismatch("what the key %s encrypted was decrypted to something else: check what answers at %s", name, s.where))
	default:
		d.ok("decrypt", "it was decrypted again")
	}
	d.denials(missing, "update", known, len(missing) == 2)
}

func (s *vaultKV) diagnose(ctx context.Context, d *diagnosis) {
	c, known := s.vaultServer.diagnose(ctx, d)
	if c == nil {
		return
	}
	ctx, cancel := stepContext(ctx)
	defer cancel()
	v, err := s.read(ctx, c, 0)
	if err != nil {
		if d.fail("read", err).Class == string(AuthDenied) {
			d.denials([]string{s.path}, "read", known, true)
		}
		return
	}
	clear(v.key)
	text := fmt.Sprintf("version %d of the secret %s has the key %s", v.number, s.path, v.id)
	if !v.ends.IsZero() {
		d.warn("read", "write the key into a secret without delete_version_after", "%s, and is deleted %s", text, inDays(v.ends))
		return
	}
	d.ok("read", "%s", text)
}
