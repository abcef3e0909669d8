package access

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What follows is a model of Vault's documented rules, written from the pages
// "Policies" and "capabilities" and without a look at the code that decides: slow
// and plain. Where the keep departs from Vault on purpose, it says so:
//
//   - (folder) Vault has a rule for the path of a folder leave the slash out where it
//     has no wildcard; here, any rule may.
//   - (report) Capabilities of a path tell whether it may be listed as a folder.
//   - (names) Where parameters are restricted, a name that is not in lower case is
//     refused.
//   - (given) A required parameter with null, "" or an empty list is not given.
//   - (empty) Where values are allowed by name, null, "" and the empty list are not
//     among them, unless they are named.
//   - (lists) A list or a text with commas is allowed when each element is, or it as
//     a whole; it is denied when one element is.
//   - (forms) A denied value is denied in other forms of the same, too.

type modelRule struct {
	path     string
	caps     []string
	allowed  map[string][]any
	denied   map[string][]any
	required []string
	min, max int // seconds; 0: none
}

type modelRequest struct {
	capability string // that the operation takes
	sudo       bool   // and this one
	path       string // without a slash at its end
	params     map[string]any
	wrap       int // seconds; 0: not wrapped
}

// modelPattern is the regular expression that a path with "+" and "*" stands for.
func modelPattern(path string) *regexp.Regexp {
	path, glob := strings.CutSuffix(path, "*")
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if parts[i] = regexp.QuoteMeta(part); part == "+" {
			parts[i] = "[^/]*"
		}
	}
	text := "^" + strings.Join(parts, "/")
	if !glob {
		text += "$"
	}
	return regexp.MustCompile(text)
}

// modelKey is what the documentation orders rules by that are not for one path; the
// greater has priority.
func modelKey(path string) (first, noGlob, fewerPlus, length int) {
	first = len(path)
	at := 0
	for part := range strings.SplitSeq(path, "/") {
		if part == "+" {
			first = min(first, at)
			fewerPlus--
		}
		at += len(part) + 1
	}
	if glob := strings.HasSuffix(path, "*"); glob {
		first = min(first, len(path)-1)
		length = len(path) - 1
	} else {
		noGlob, length = 1, len(path)
	}
	return first, noGlob, fewerPlus, length
}

func modelExact(path string) bool {
	return !strings.HasSuffix(path, "*") && !slices.Contains(strings.Split(path, "/"), "+")
}

// modelHigher tells whether p has a higher priority than q.
func modelHigher(p, q string) bool {
	a, b, c, d := modelKey(p)
	w, x, y, z := modelKey(q)
	if order := slices.Compare([]int{a, b, c, d}, []int{w, x, y, z}); order != 0 {
		return order > 0
	}
	return p > q
}

// modelDecides returns the path of the rule that decides about a path; ok is false
// when there is none.
func modelDecides(rules []modelRule, path string, folder bool) (best string, ok bool) {
	forms := []string{path}
	if folder {
		forms = []string{path + "/", path} // (folder)
	}
	for _, form := range forms {
		for _, r := range rules {
			if p := strings.TrimPrefix(r.path, "/"); modelExact(p) && p == form {
				return p, true
			}
		}
	}
	for _, r := range rules {
		p := strings.TrimPrefix(r.path, "/")
		if modelExact(p) {
			continue
		}
		pattern := modelPattern(p)
		if slices.ContainsFunc(forms, pattern.MatchString) && (!ok || modelHigher(p, best)) {
			best, ok = p, true
		}
	}
	return best, ok
}

// modelMerge is all that policies say of one path.
func modelMerge(rules []modelRule, path string) (m modelRule) {
	add := func(to *map[string][]any, from map[string][]any) {
		for name, values := range from {
			name = strings.ToLower(name)
			if *to == nil {
				*to = make(map[string][]any)
			}
			old, there := (*to)[name]
			switch {
			case there && len(old) == 0 || len(values) == 0: // any value
				(*to)[name] = []any{}
			default:
				(*to)[name] = append(slices.Clone(old), values...)
			}
		}
	}
	least := func(to *int, n int) {
		if n > 0 && (*to == 0 || n < *to) {
			*to = n
		}
	}
	for _, r := range rules {
		if strings.TrimPrefix(r.path, "/") != path {
			continue
		}
		if slices.Contains(r.caps, "deny") {
			return modelRule{caps: []string{"deny"}}
		}
		m.caps = append(m.caps, r.caps...)
		add(&m.allowed, r.allowed)
		add(&m.denied, r.denied)
		for _, name := range r.required {
			m.required = append(m.required, strings.ToLower(name))
		}
		least(&m.min, r.min)
		least(&m.max, r.max)
	}
	return m
}

// modelMay tells whether the policies allow a request.
func modelMay(rules []modelRule, q modelRequest) bool {
	folder := q.capability == "list" || q.capability == "scan"
	path, ok := modelDecides(rules, q.path, folder)
	if !ok {
		return false
	}
	m := modelMerge(rules, path)
	if !slices.Contains(m.caps, q.capability) || q.sudo && !slices.Contains(m.caps, "sudo") {
		return false
	}
	if (m.min > 0 || m.max > 0) && q.wrap == 0 || q.wrap < m.min || m.max > 0 && q.wrap > m.max {
		return false
	}
	if folder || q.capability == "delete" {
		return true
	}
	restricted := m.allowed != nil || m.denied != nil || m.required != nil
	for name := range q.params {
		if restricted && name != strings.ToLower(name) { // (names)
			return false
		}
	}
	for _, name := range m.required {
		if v, there := q.params[name]; !there || modelEmpty(v) { // (given)
			return false
		}
	}
	if len(q.params) == 0 {
		return true
	}
	if _, all := m.denied["*"]; all {
		return false
	}
	_, others := m.allowed["*"]
	for name, v := range q.params {
		if values, there := m.denied[name]; there && modelDenied(values, v) {
			return false
		}
		if m.allowed == nil {
			continue
		}
		values, there := m.allowed[name]
		if !there && !others || there && len(values) > 0 && !modelAllowed(values, v) {
			return false
		}
	}
	return true
}

// modelParts is what a value may be split into.
func modelParts(v any) (parts []any) {
	if list, ok := v.([]any); ok {
		return list
	}
	if text, ok := v.(string); ok && strings.Contains(text, ",") {
		for _, part := range strings.Split(text, ",") {
			parts = append(parts, strings.TrimSpace(part))
		}
	}
	return parts
}

// modelText is a value as `vault write` spells it.
func modelText(v any) string {
	b, _ := json.Marshal(v)
	return strings.Trim(string(b), `"`)
}

// modelFits tells whether a value of a policy is for v: texts with "*" at an end
// are for all that end or begin so.
func modelFits(want, v any) bool {
	if _, list := v.([]any); list || v == nil {
		return false
	}
	text := modelText(v)
	pattern, isText := want.(string)
	if !isText {
		return modelText(want) == text
	}
	expression := regexp.QuoteMeta(strings.Trim(pattern, "*"))
	if strings.HasPrefix(pattern, "*") {
		expression = ".*" + expression
	}
	if strings.HasSuffix(pattern, "*") {
		expression += ".*"
	}
	return regexp.MustCompile("^(" + expression + ")$").MatchString(text)
}

// modelEmpty tells whether a value says nothing.
func modelEmpty(v any) bool {
	list, isList := v.([]any)
	return v == nil || v == "" || isList && len(list) == 0
}

func modelAllowed(values []any, v any) bool {
	if modelEmpty(v) { // (empty)
		return v == "" && slices.Contains(values, any("")) || v == nil && slices.Contains(values, nil)
	}
	parts := modelParts(v)
	if parts == nil {
		return slices.ContainsFunc(values, func(want any) bool { return modelFits(want, v) })
	}
	text, isText := v.(string)
	if isText && slices.Contains(values, any(text)) { // (lists): as a whole
		return true
	}
	for _, part := range parts { // (lists)
		if modelEmpty(part) { // (empty)
			return false
		}
		if !slices.ContainsFunc(values, func(want any) bool { return modelFits(want, part) }) {
			return false
		}
	}
	return len(parts) > 0
}

// modelForms are what the API may read a value as, by kind.
func modelForms(v any) map[string]bool {
	if v == nil {
		v = ""
	}
	text := strings.ToLower(strings.TrimSpace(modelText(v)))
	forms := map[string]bool{"text " + text: true}
	switch text {
	case "true", "t", "1":
		forms["on"] = true
	case "false", "f", "0", "":
		forms["off"] = true
	}
	if n, err := strconv.Atoi("0" + text); err == nil {
		forms[fmt.Sprint("seconds ", n)] = true
	}
	if d, err := time.ParseDuration(text); err == nil {
		forms[fmt.Sprint("seconds ", d.Seconds())] = true
	}
	return forms
}

func modelDenied(values []any, v any) bool {
	if len(values) == 0 {
		return true
	}
	for _, part := range append([]any{v}, modelParts(v)...) {
		if _, list := part.([]any); list {
			continue
		}
		for _, want := range values {
			if modelFits(want, part) {
				return true
			}
			if text, ok := want.(string); ok && strings.Contains(text, "*") {
				if part != nil && modelFits(strings.ToLower(text), strings.ToLower(strings.TrimSpace(modelText(part)))) { // (forms)
					return true
				}
				continue
			}
			for form := range modelForms(want) { // (forms)
				if modelForms(part)[form] {
					return true
				}
			}
		}
	}
	return false
}

// modelCapabilities is what may be done on a path, as sys/capabilities says it.
func modelCapabilities(rules []modelRule, path string) string {
	var can []string
	for _, c := range []string{"create", "delete", "list", "patch", "read", "scan", "sudo", "update"} {
		folder := c == "list" || c == "scan" // (report)
		if p, ok := modelDecides(rules, path, folder); ok && slices.Contains(modelMerge(rules, p).caps, c) {
			can = append(can, c)
		}
	}
	if can == nil {
		return "deny"
	}
	return strings.Join(can, " ")
}

// A modelSource draws policies and requests, from few words, so that they meet.
type modelSource struct{ *rand.Rand }

func (s modelSource) pick(words ...string) string { return words[s.IntN(len(words))] }

func (s modelSource) path(pattern bool) string {
	words := []string{"a", "b", "ab", "abc"}
	if pattern {
		words = append(words, "+", "+", "a+", "a*b")
	}
	path := s.pick(words...)
	for range s.IntN(4) {
		path += "/" + s.pick(words...)
	}
	return path
}

func (s modelSource) value() any {
	switch s.IntN(10) {
	case 0:
		return s.IntN(3)
	case 1:
		return s.IntN(2) == 0
	case 2:
		return s.pick("1h", "3600", "60m", "1")
	}
	return s.pick("x", "y", "xy", "yx", "X")
}

func (s modelSource) params() map[string][]any {
	if s.IntN(3) > 0 {
		return nil
	}
	params := make(map[string][]any)
	for range 1 + s.IntN(3) {
		name := s.pick("p", "q", "r", "P", "*")
		values := []any{}
		for range s.IntN(3) {
			v := s.value()
			if text, ok := v.(string); ok {
				v = s.pick("", "", "", "*") + text + s.pick("", "", "", "*")
				if s.IntN(8) == 0 {
					v = "x,y"
				}
			}
			values = append(values, v)
		}
		if name == "*" {
			values = []any{}
		}
		params[name] = values
	}
	return params
}

func (s modelSource) rule() (r modelRule) {
	for r.path = s.path(true) + s.pick("", "", "", "/", "/*", "*"); strings.HasSuffix(r.path, "+*"); {
		r.path = s.path(true)
	}
	r.path = s.pick("", "", "", "/") + r.path
	if s.IntN(20) == 0 {
		r.path = "*"
	}
	for range 1 + s.IntN(4) {
		r.caps = append(r.caps, s.pick("create", "read", "update", "patch", "delete", "list", "scan", "sudo"))
	}
	if s.IntN(20) == 0 {
		r.caps = append(r.caps, "deny")
	}
	r.allowed, r.denied = s.params(), s.params()
	if s.IntN(6) == 0 {
		r.required = []string{s.pick("p", "q", "P")}
	}
	if s.IntN(4) == 0 {
		r.min = s.IntN(3) * 60
		r.max = s.IntN(2) * (r.min + 60)
	}
	return r
}

func (s modelSource) request() (q modelRequest) {
	q.path = s.path(false)
	q.capability = s.pick("create", "read", "update", "patch", "delete", "list", "scan")
	q.sudo = s.IntN(10) == 0
	q.wrap = max(0, s.IntN(8)-4) * 60
	q.params = make(map[string]any)
	for range s.IntN(3) {
		var v any = s.value()
		switch s.IntN(6) {
		case 0:
			v = []any{v, s.value()}[:s.IntN(3)]
		case 1, 2:
			v = s.pick("x,y", "x, xy", "y,x,X")
		case 3:
			v = []any{nil, ""}[s.IntN(2)]
		}
		q.params[s.pick("p", "p", "q", "r", "P")] = v
	}
	return q
}

// modelPolicyText is the rules as a policy.
func modelPolicyText(rules []modelRule) string {
	var b strings.Builder
	quote := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	for _, r := range rules {
		fmt.Fprintf(&b, "path %q {\n", r.path)
		if r.caps != nil {
			fmt.Fprintf(&b, "  capabilities = %s\n", quote(r.caps))
		}
		for name, params := range map[string]map[string][]any{"allowed_parameters": r.allowed, "denied_parameters": r.denied} {
			if params != nil {
				fmt.Fprintf(&b, "  %s = %s\n", name, quote(params))
			}
		}
		if r.required != nil {
			fmt.Fprintf(&b, "  required_parameters = %s\n", quote(r.required))
		}
		if r.min > 0 {
			fmt.Fprintf(&b, "  min_wrapping_ttl = %d\n", r.min)
		}
		if r.max > 0 {
			fmt.Fprintf(&b, "  max_wrapping_ttl = %d\n", r.max)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// modelAsk asks the code that decides, as the server does.
func modelAsk(a *ACL, q modelRequest) bool {
	path := q.path
	folder := q.capability == "list" || q.capability == "scan"
	if folder {
		path += "/"
	}
	g := a.Find(path)
	c, _ := ParseCapability(q.capability)
	if !g.Has(c) || q.sudo && !g.Has(CanSudo) || g.CheckWrap(time.Duration(q.wrap)*time.Second) != nil {
		return false
	}
	if folder || q.capability == "delete" {
		return true
	}
	b, _ := json.Marshal(q.params)
	var params map[string]any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if d.Decode(&params) != nil {
		return false
	}
	return g.Check(params, nil, false) == nil
}

// Random policies decide about random requests as the model says. SEALKEEP_LONG=1
// makes it 100,000 requests instead of 4,000; SEALKEEP_SEED=N repeats a failure.
func TestDecisionsAgainstAModelOfVaultsRules(t *testing.T) {
	cases := 4000
	if os.Getenv("SEALKEEP_LONG") != "" {
		cases = 100_000
	}
	seed := rand.Uint64()
	if text := os.Getenv("SEALKEEP_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	s := modelSource{rand.New(rand.NewPCG(seed, 0))}
	allowed, byParameters := 0, 0
	const perACL = 10
	for range cases / perACL {
		var rules []modelRule
		var policies []*Policy
		var texts []string
		few := s.IntN(2) == 0 // paths, so that all policies have the same
		for n := range 1 + s.IntN(3) {
			var own []modelRule
			for range 1 + s.IntN(6) {
				own = append(own, s.rule())
				if few && len(rules)+len(own) > 2 {
					own[len(own)-1].path = slices.Concat(rules, own)[s.IntN(2)].path
				}
			}
			if n > 0 {
				own[0].path = rules[s.IntN(len(rules))].path
			}
			text := modelPolicyText(own)
			rules, texts = append(rules, own...), append(texts, text)
			policies = append(policies, mustParse(t, fmt.Sprint("p", n), text))
		}
		s.Shuffle(len(policies), func(i, j int) { policies[i], policies[j] = policies[j], policies[i] })
		a := NewACL(policies)
		for range perACL {
			q := s.request()
			if r := strings.TrimPrefix(rules[s.IntN(len(rules))].path, "/"); s.IntN(4) > 0 { // one that is likely to be decided
				q.path = strings.NewReplacer("+", "b", "*", "a").Replace(strings.TrimSuffix(strings.TrimSuffix(r, "/"), "/*"))
			}
			want, got := modelMay(rules, q), modelAsk(a, q)
			if want != got {
				t.Fatalf("SEALKEEP_SEED=%d: the request %+v is allowed: %v, the model says %v; the policies are\n%s", seed, q, got, want, strings.Join(texts, "---\n"))
			}
			if caps, want := strings.Join(a.Capabilities(q.path).Names(), " "), modelCapabilities(rules, q.path); caps != want {
				t.Fatalf("SEALKEEP_SEED=%d: capabilities of %s are %q, the model says %q; the policies are\n%s", seed, q.path, caps, want, strings.Join(texts, "---\n"))
			}
			if want {
				if allowed++; len(q.params) > 0 && a.Find(q.path).Restricted() {
					byParameters++
				}
			}
		}
	}
	if allowed < cases/20 || byParameters < cases/1000 {
		t.Errorf("SEALKEEP_SEED=%d: only %d of %d requests were allowed, %d of them with parameters that are restricted", seed, allowed, cases, byParameters)
	}
}
