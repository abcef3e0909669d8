package access

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// A rule is one path of a policy and what is allowed there. In an [ACL] it combines
// the rules for that path of all policies.
type rule struct {
	path    string // as written
	line    int
	pattern string // without a slash at its beginning
	text    string // without the "*" at its end
	prefix  bool   // it had one
	plus    int    // segments that are "+"
	first   int    // position of the first "+", else of the "*"

	segments []string // of text

	caps     Capability
	allowed  map[string][]any // by folded name
	denied   map[string][]any
	required []string

	minWrap, maxWrap time.Duration // limits of the wrapping TTL; 0: none
}

// deny makes the rule deny everything.
func (r *rule) deny() {
	r.caps, r.allowed, r.denied, r.required, r.minWrap, r.maxWrap = Denied, nil, nil, nil, 0, 0
}

// exact reports whether the rule is for a single path.
func (r *rule) exact() bool { return !r.prefix && r.plus == 0 }

// compare orders rules that are not exact by priority. It returns a positive number if
// r decides where both match. These are Vault's criteria, in its order.
func (r *rule) compare(o *rule) int {
	lower := func(is, other bool) int { // orders the rule that has the property after the one that does not
		switch {
		case is == other:
			return 0
		case is:
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(r.first, o.first), lower(r.prefix, o.prefix), cmp.Compare(o.plus, r.plus),
		cmp.Compare(len(r.text), len(o.text)), strings.Compare(r.text, o.text))
}

// matches reports whether the rule matches a path, given by its segments.
func (r *rule) matches(path []string) bool {
	n := len(r.segments)
	if len(path) < n || len(path) > n && !r.prefix {
		return false
	}
	if r.prefix {
		if n--; !strings.HasPrefix(path[n], r.segments[n]) {
			return false
		}
	}
	for i, want := range r.segments[:n] {
		if want != "+" && want != path[i] {
			return false
		}
	}
	return true
}

// within reports whether the rule can match a path that begins with folder, which
// ends in a slash.
func (r *rule) within(folder string) bool {
	for want, have := r.text, folder; have != ""; {
		segment, below, more := strings.Cut(want, "/")
		is, rest, _ := strings.Cut(have, "/")
		if !more {
			return r.prefix && strings.HasPrefix(is, segment) || !r.prefix && rest == "" && (segment == "+" || segment == is)
		}
		if segment != "+" && segment != is {
			return false
		}
		want, have = below, rest
	}
	return true
}

// merge adds another policy's rule for the same path. The result has the
// capabilities of both, the restrictions of both, for each parameter the values of
// both, and of two limits of a wrapping TTL the lesser. A denial overrides
// everything.
func (r *rule) merge(o *rule) {
	if r.caps |= o.caps; r.caps&Denied != 0 {
		r.deny()
		return
	}
	r.allowed, r.denied = mergeMaps(r.allowed, o.allowed), mergeMaps(r.denied, o.denied)
	for _, name := range o.required {
		if !slices.Contains(r.required, name) {
			r.required = append(slices.Clip(r.required), name)
		}
	}
	r.minWrap, r.maxWrap = lesser(r.minWrap, o.minWrap), lesser(r.maxWrap, o.maxWrap)
}

// lesser returns the lesser of two durations, ignoring one that is 0.
func lesser(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func mergeMaps(a, b map[string][]any) map[string][]any {
	if a == nil {
		return b
	}
	a = maps.Clone(a) // a policy is immutable
	for name, values := range b {
		mergeValues(a, name, values)
	}
	return a
}

// mergeValues adds values; the empty list means all values.
func mergeValues(to map[string][]any, name string, values []any) {
	old, given := to[name]
	if given && len(old) == 0 || len(values) == 0 {
		to[name] = nil
		return
	}
	to[name] = slices.Concat(old, values)
}

// An ACL is what some policies allow together. It is immutable.
//
// A decision costs one look-up in a map and, if no rule is for exactly that path,
// one for each length of text before a first wildcard, the longest first, which
// has priority.
type ACL struct {
	root    bool
	exact   map[string]*rule
	heads   map[string][]*rule // by the text before the first wildcard, best first
	lengths []int              // of the heads, longest first
}

// NewACL compiles policies. A policy named root allows everything.
func NewACL(policies []*Policy) *ACL {
	a := &ACL{exact: make(map[string]*rule), heads: make(map[string][]*rule)}
	byPattern := make(map[string]*rule)
	for _, p := range policies {
		a.root = a.root || p.Name == RootPolicy
		for _, r := range p.rules {
			if known := byPattern[r.pattern]; known != nil {
				known.merge(r)
				continue
			}
			own := *r
			byPattern[r.pattern] = &own
		}
	}
	for _, r := range byPattern {
		if r.exact() {
			a.exact[r.pattern] = r
		} else {
			head := r.text[:r.first]
			a.heads[head] = append(a.heads[head], r)
		}
	}
	for head, rules := range a.heads {
		slices.SortFunc(rules, func(x, y *rule) int { return y.compare(x) })
		if !slices.Contains(a.lengths, len(head)) {
			a.lengths = append(a.lengths, len(head))
		}
	}
	slices.Sort(a.lengths)
	slices.Reverse(a.lengths)
	return a
}

// Size returns approximately how many bytes of memory the ACL takes in addition to
// its policies.
func (a *ACL) Size() int {
	size := 512
	for _, r := range a.exact {
		size += r.size()
	}
	for _, rules := range a.heads {
		for _, r := range rules {
			size += r.size()
		}
	}
	return size
}

// size returns approximately how many bytes of memory the rule takes, including its
// values.
func (r *rule) size() int {
	size := 256 + len(r.path) + 16*len(r.segments)
	for _, params := range []map[string][]any{r.allowed, r.denied} {
		for name, values := range params {
			size += 64 + len(name)
			size += sizeOf(values)
		}
	}
	for _, name := range r.required {
		size += 16 + len(name)
	}
	return size
}

// sizeOf returns approximately how many bytes of memory a parameter's value takes.
func sizeOf(v any) int {
	size := 64
	switch v := v.(type) {
	case string:
		size += len(v)
	case []any:
		for _, e := range v {
			size += sizeOf(e)
		}
	case map[string]any:
		for name, e := range v {
			size += 64 + len(name) + sizeOf(e)
		}
	}
	return size
}

// Find returns what the ACL allows on a path of the API (below /v1/, without a
// leading slash). Lists and scans have the path of a folder, which ends in a slash;
// a rule for it may omit the slash.
//
// One rule decides, the first of these that exists:
//
//  1. the rule for exactly this path;
//  2. for a folder, the rule for exactly its path without the slash;
//  3. of the rules with "*" or "+" that match, for a folder also without its slash,
//     the one whose first wildcard comes last; then one without "*" at its end; then
//     the one with fewer "+"; then the longer; then the greater text.
//
// Rules of several policies for the same path count as one rule, in which a denial
// wins. These are Vault's criteria. Vault first tries all wildcard rules without the
// slash, OpenBao first with it; here the better rule decides, so that secret/* does
// not hide secret/metadata/+, nor team* the longer team/*.
func (a *ACL) Find(path string) Grant {
	if a.root {
		return Grant{root: true}
	}
	r := a.exact[path]
	name, folder := strings.CutSuffix(path, "/")
	if r == nil && folder {
		r = a.exact[name]
	}
	if r != nil {
		return Grant{rule: r}
	}
	segments := make([]string, 0, 32) // on the stack, unless it grows
	for segment := range strings.SplitSeq(path, "/") {
		segments = append(segments, segment)
	}
	for _, n := range a.lengths {
		if n > len(path) {
			continue
		}
		for _, r := range a.heads[path[:n]] {
			if r.matches(segments) || folder && !r.prefix && r.matches(segments[:len(segments)-1]) {
				return Grant{rule: r}
			}
		}
	}
	return Grant{}
}

// Capabilities returns what is allowed on a path, regardless of parameters. As for
// requests, list and scan are decided for the path as a folder.
func (a *ACL) Capabilities(path string) Capability {
	const folder = CanList | CanScan
	c := a.Find(path).Capabilities()
	inside := a.Find(strings.TrimSuffix(path, "/") + "/").Capabilities()
	if inside&Denied != 0 {
		inside = 0
	}
	if inside &= folder; inside != 0 {
		c &^= Denied
	}
	return c&^folder | inside
}

// Sudo reports whether sudo is allowed on the path, as protected paths require.
func (a *ACL) Sudo(path string) bool { return a.Find(path).Has(CanSudo) }

// Root reports whether everything is allowed.
func (a *ACL) Root() bool { return a.root }

// Within reports whether anything is allowed on any path inside folder, which ends
// in a slash.
func (a *ACL) Within(folder string) bool {
	some := func(r *rule) bool { return r.caps&^Denied != 0 && r.within(folder) }
	if a.root {
		return true
	}
	for _, rules := range a.heads {
		if slices.ContainsFunc(rules, some) {
			return true
		}
	}
	for path, r := range a.exact {
		if r.caps&^Denied != 0 && (strings.HasPrefix(path, folder) || path+"/" == folder) {
			return true
		}
	}
	return false
}

// A Permission is what one rule of an [ACL] says, in Vault's form.
type Permission struct {
	Capabilities       []string         `json:"capabilities"`
	MinWrappingTTL     int64            `json:"min_wrapping_ttl,omitempty"` // seconds
	MaxWrappingTTL     int64            `json:"max_wrapping_ttl,omitempty"`
	AllowedParameters  map[string][]any `json:"allowed_parameters,omitempty"`
	DeniedParameters   map[string][]any `json:"denied_parameters,omitempty"`
	RequiredParameters []string         `json:"required_parameters,omitempty"`
}

// Permissions returns the rules for single paths, and those for several, keyed by
// the prefix of these paths or, if there is a "+", by the whole pattern. An ACL that
// allows everything has none.
func (a *ACL) Permissions() (exact, glob map[string]Permission) {
	exact, glob = make(map[string]Permission), make(map[string]Permission)
	if a.root {
		return exact, glob
	}
	for path, r := range a.exact {
		exact[path] = r.permission()
	}
	for _, rules := range a.heads {
		for _, r := range rules {
			pattern := r.text
			if r.plus > 0 {
				pattern = r.pattern
			}
			glob[pattern] = r.permission()
		}
	}
	return exact, glob
}

func (r *rule) permission() Permission {
	return Permission{
		Capabilities: r.caps.Names(), MinWrappingTTL: int64(r.minWrap / time.Second), MaxWrappingTTL: int64(r.maxWrap / time.Second),
		AllowedParameters: listed(r.allowed), DeniedParameters: listed(r.denied), RequiredParameters: r.required,
	}
}

// listed returns the parameters with an empty, not nil, list for all values.
func listed(params map[string][]any) map[string][]any {
	out := make(map[string][]any, len(params))
	for name, values := range params {
		out[name] = append([]any{}, values...)
	}
	return out
}

// A Grant is what an [ACL] allows on one path. The zero value allows nothing.
type Grant struct {
	root bool
	rule *rule // the rule that decides; nil: none
}

// Has reports whether all of c is allowed.
func (g Grant) Has(c Capability) bool {
	return g.root || g.rule != nil && g.rule.caps&Denied == 0 && g.rule.caps&c == c
}

// Capabilities returns everything that is allowed.
func (g Grant) Capabilities() Capability {
	switch {
	case g.root:
		return isRoot
	case g.rule == nil:
		return 0
	}
	return g.rule.caps
}

// Rule returns the path, as written, and the line of the rule that decides; ok is
// false if there is none.
func (g Grant) Rule() (path string, line int, ok bool) {
	if g.rule == nil {
		return "", 0, false
	}
	return g.rule.path, g.rule.line, true
}

// Restricted reports whether [Grant.Check] may refuse some parameters.
func (g Grant) Restricted() bool {
	return g.rule != nil && (g.rule.allowed != nil || g.rule.denied != nil || g.rule.required != nil)
}

// Wrapping returns the least and the most TTL with which the answer must be wrapped;
// 0 means no limit.
func (g Grant) Wrapping() (least, most time.Duration) {
	if g.rule == nil {
		return 0, 0
	}
	return g.rule.minWrap, g.rule.maxWrap
}

// CheckWrap returns [ErrDenied] unless the grant allows a request whose answer is
// wrapped for ttl, or not wrapped if ttl is 0.
func (g Grant) CheckWrap(ttl time.Duration) error {
	least, most := g.Wrapping()
	if (least > 0 || most > 0) && (ttl == 0 || ttl < least || most > 0 && ttl > most) {
		return ErrDenied
	}
	return nil
}
