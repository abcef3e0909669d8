package jwt

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

func TestTimes(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := func(s int) json.Number { return json.Number(string(mustJSON(now.Unix() + int64(s)))) }
	for _, c := range []struct {
		claims Claims
		role   Role
		want   string
	}{
		{Claims{}, Role{}, "no issued at"},
		{Claims{"exp": json.Number("0")}, Role{}, "no issued at"},
		{Claims{"exp": at(1)}, Role{}, ""},
		{Claims{"exp": at(-59)}, Role{}, ""},
		{Claims{"exp": at(-61)}, Role{}, "is expired"},
		{Claims{"exp": at(-1)}, Role{ClockSkew: -1}, "is expired"},
		{Claims{"exp": at(-119)}, Role{ClockSkew: 2 * time.Minute}, ""},
		{Claims{"exp": at(-61)}, Role{ExpiryLeeway: time.Hour}, "is expired"},
		{Claims{"exp": at(300)}, Role{}, "not yet valid"}, // nothing says that it began
		{Claims{"exp": at(300)}, Role{NotBefore: time.Hour}, ""},
		{Claims{"exp": at(300), "iat": at(0)}, Role{}, ""},
		{Claims{"exp": at(300), "nbf": at(61)}, Role{}, "not yet valid"},
		{Claims{"exp": at(300), "nbf": at(59)}, Role{}, ""},
		{Claims{"exp": at(300), "nbf": at(0), "iat": at(61)}, Role{}, "in the future"},
		{Claims{"iat": at(-209)}, Role{}, ""},
		{Claims{"iat": at(-211)}, Role{}, "is expired"},
		{Claims{"nbf": at(-211)}, Role{}, "is expired"},
		{Claims{"nbf": at(-61)}, Role{ExpiryLeeway: -1}, "is expired"},
		{Claims{"iat": at(-211)}, Role{ExpiryLeeway: time.Hour}, ""},
		{Claims{"exp": json.Number("1e99")}, Role{}, "not yet valid"},
		{Claims{"exp": json.Number("1e999"), "iat": at(0)}, Role{}, "not a time"},
		{Claims{"exp": json.Number("-5"), "iat": at(0)}, Role{}, "not a time"},
		{Claims{"exp": "tomorrow", "iat": at(0)}, Role{}, "not a time"},
		{Claims{"exp": []any{}, "iat": at(0)}, Role{}, "not a time"},
		{Claims{"exp": json.Number("1800000000.5"), "iat": at(0)}, Role{}, ""},
	} {
		role := c.role
		role.UserClaim, role.Subject = "sub", "x"
		c.claims["sub"] = "x"
		_, _, err := role.Match(c.claims, now)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, api.ErrRequest) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v with %+v: %v, want %q", c.claims, c.role, err, c.want)
		}
	}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func TestRole(t *testing.T) {
	now := time.Now()
	claims := Claims{
		"iat": json.Number(string(mustJSON(now.Unix()))), "sub": "repo:one", "aud": "keep", "ref": "refs/heads/main", "id": json.Number("42"), "ok": true,
		"groups": []any{"a", "b", map[string]any{}}, "deep": map[string]any{"a/b": []any{"zero", map[string]any{"~": "found"}}}, "n": map[string]any{"x": json.Number("1")},
		"https://claims/x": "y", "empty": "", "email": "a@example.com",
	}
	with := func(change Claims) Claims {
		c := maps.Clone(claims)
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return c
	}
	base := Role{Name: "ci", UserClaim: "sub", Audiences: []string{"other", "keep"}}
	for _, c := range []struct {
		change func(*Role)
		claims Claims
		want   string
	}{
		{func(*Role) {}, claims, ""},
		{func(r *Role) {}, with(Claims{"aud": []any{"x", "keep"}}), ""},
		{func(r *Role) {}, with(Claims{"aud": "keeper"}), "does not match any expected audience"},
		{func(r *Role) {}, with(Claims{"aud": nil}), "does not match any expected audience"},
		{func(r *Role) {}, with(Claims{"aud": json.Number("1")}), "invalid audience"},
		{func(r *Role) {}, with(Claims{"aud": []any{"keep", true}}), "invalid audience"},
		{func(r *Role) { r.Audiences, r.Subject = nil, "repo:one" }, claims, "no audiences bound"},
		{func(r *Role) { r.Audiences, r.Subject = nil, "repo:one" }, with(Claims{"aud": []any{}}), ""},
		{func(r *Role) { r.Subject = "repo:one" }, claims, ""},
		{func(r *Role) { r.Subject = "repo:on" }, claims, "subject"},
		{func(r *Role) { r.Subject = "repo:one" }, with(Claims{"sub": nil}), "subject"},
		{func(r *Role) { r.Claims = map[string]any{"ref": "refs/heads/main"} }, claims, ""},
		{func(r *Role) { r.Claims = map[string]any{"ref": "refs/heads/*"} }, claims, `claim "ref" does not match`},
		{func(r *Role) { r.Claims, r.Glob = map[string]any{"ref": "refs/heads/*"}, true }, claims, ""},
		{func(r *Role) { r.Claims, r.Glob = map[string]any{"ref": []any{"x*", "refs/tags/*"}}, true }, claims, "does not match"},
		{func(r *Role) { r.Claims, r.Glob = map[string]any{"id": "*"}, true }, claims, "does not match"},
		{func(r *Role) { r.Claims = map[string]any{"id": json.Number("42"), "ok": true} }, claims, ""},
		{func(r *Role) { r.Claims = map[string]any{"id": "42"} }, claims, "does not match"},
		{func(r *Role) { r.Claims = map[string]any{"ok": "true"} }, claims, "does not match"},
		{func(r *Role) { r.Claims = map[string]any{"groups": []any{"z", "b"}} }, claims, ""},
		{func(r *Role) { r.Claims = map[string]any{"groups": "c"} }, claims, "does not match"},
		{func(r *Role) { r.Claims = map[string]any{"n": "1"} }, claims, "does not match"},
		{func(r *Role) { r.Claims = map[string]any{"missing": "x"} }, claims, `claim "missing" is missing`},
		{func(r *Role) { r.Claims = map[string]any{"ref": "refs/heads/main", "missing": "x"} }, claims, "missing"},
		{func(r *Role) { r.Claims = map[string]any{"/deep/a~1b/1/~0": "found"} }, claims, ""},
		{func(r *Role) { r.Claims = map[string]any{"/deep/a~1b/2": "found"} }, claims, "missing"},
		{func(r *Role) { r.Claims = map[string]any{"/sub/x": "found"} }, claims, "missing"},
		{func(r *Role) { r.Claims = map[string]any{"https://claims/x": "y"} }, claims, ""},
		{func(r *Role) { r.UserClaim = "nobody" }, claims, `claim "nobody" not found`},
		{func(r *Role) { r.UserClaim = "id" }, claims, "could not be converted"},
		{func(r *Role) { r.UserClaim = "empty" }, claims, "could not be converted"},
		{func(r *Role) { r.UserClaim = "/deep/a~1b/0" }, claims, "not found"},
		{func(r *Role) { r.UserClaim, r.UserPointer = "/deep/a~1b/0", true }, claims, ""},
		{func(r *Role) { r.Mappings = map[string]string{"id": "id"} }, claims, "error converting claim 'id'"},
	} {
		r := base
		c.change(&r)
		if err := r.Check(); err != nil {
			t.Errorf("%+v: %v", r, err)
			continue
		}
		_, _, err := r.Match(c.claims, now)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, api.ErrRequest) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", r, err, c.want)
		}
	}
	r := base
	r.Mappings = map[string]string{"ref": "branch", "missing": "none", "/deep/a~1b/1/~0": "deep"}
	user, meta, err := r.Match(claims, now)
	if want := map[string]string{"role": "ci", "branch": "refs/heads/main", "deep": "found"}; err != nil || user != "repo:one" || !reflect.DeepEqual(meta, want) {
		t.Errorf("%q %v %v", user, meta, err)
	}
	for want, r := range map[string]Role{
		"user claim must be defined": {Subject: "x"},
		"at least one bound":         {UserClaim: "sub"},
		`claim "a" is not a string`:  {UserClaim: "sub", Claims: map[string]any{"a": map[string]any{}}},
		`claim "b" is not a string`:  {UserClaim: "sub", Claims: map[string]any{"b": []any{}}},
		`claim "c" is not a string`:  {UserClaim: "sub", Claims: map[string]any{"c": []any{"x", nil}}},
		"which 'bound_claims_type'":  {UserClaim: "sub", Claims: map[string]any{"a": true}, Glob: true},
		"is reserved":                {UserClaim: "sub", Subject: "x", Mappings: map[string]string{"a": "role"}},
		"multiple keys":              {UserClaim: "sub", Subject: "x", Mappings: map[string]string{"a": "x", "b": "x"}},
	} {
		if err := r.Check(); !errors.Is(err, api.ErrRequest) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
	bound := Role{UserClaim: "sub", TokenParams: access.TokenParams{BoundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	if err := bound.Check(); err != nil {
		t.Error(err)
	}
}
