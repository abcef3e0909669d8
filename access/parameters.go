package access

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Check returns [ErrDenied] when the grant is not for a request with these
// parameters, which are as encoding/json decodes them, with json.Number. It is
// for reads and writes, not for lists, scans and deletions.
//
// The rules see what the handler will read:
//
//   - A name is written as the API has it, in lower case; another spelling, which
//     some handlers read and others ignore, is refused. With free, the names are
//     the client's data and compared without regard to case.
//   - A parameter is given when it has a value: null and "" do not count.
//   - A number or a boolean is the same as the string that spells it. A list, or a
//     string with commas, which the API may split, is allowed when all of its
//     elements are, or it as a whole, and denied when one of them is.
//   - A denied value is denied in every form that the API reads as the same:
//     another case, true as 1 or "T", 768h as 2764800 or "32d", null as the zero
//     value, and under an older name of the parameter.
func (g Grant) Check(params map[string]any, free bool) error {
	if !g.Restricted() {
		return nil
	}
	names := make(map[string]bool, len(params))
	for name, v := range params {
		if !free && fold(name) != name {
			return ErrDenied
		}
		if v != nil && v != "" {
			names[fold(name)] = true
		}
	}
	for _, name := range g.rule.required {
		if !names[name] {
			return ErrDenied
		}
	}
	if len(params) == 0 {
		return nil
	}
	if _, all := g.rule.denied["*"]; all {
		return ErrDenied
	}
	for name, v := range params {
		if name = fold(name); g.rule.denies(name, v) || !g.rule.allows(name, v) {
			return ErrDenied
		}
	}
	return nil
}

// sameParameter are names that the API takes for the same.
var sameParameter = [][]string{
	{"ttl", "token_ttl", "lease"}, {"max_ttl", "token_max_ttl"}, {"explicit_max_ttl", "token_explicit_max_ttl"}, {"period", "token_period"},
	{"policies", "token_policies"}, {"num_uses", "token_num_uses"}, {"bound_cidrs", "token_bound_cidrs"},
	{"secret_id_bound_cidrs", "bound_cidr_list"}, {"path", "paths"}, {"policy", "rules"},
}

// sameAs are all names of a parameter.
func sameAs(name string) []string {
	for _, names := range sameParameter {
		if slices.Contains(names, name) {
			return names
		}
	}
	return []string{name}
}

func (r *rule) denies(name string, v any) bool {
	for _, name := range sameAs(name) {
		values, ok := r.denied[name]
		if !ok {
			continue
		}
		if len(values) == 0 {
			return true
		}
		for _, e := range append(elements(v), v) {
			if slices.ContainsFunc(values, func(want any) bool { return alike(want, e) }) {
				return true
			}
		}
	}
	return false
}

func (r *rule) allows(name string, v any) bool {
	if r.allowed == nil {
		return true
	}
	if values, ok := r.allowed[name]; ok {
		return allowedBy(values, v)
	}
	if _, others := r.allowed["*"]; !others {
		return false
	}
	for _, name := range sameAs(name) { // a value that is not allowed under one name is not under another
		if values, ok := r.allowed[name]; ok && !allowedBy(values, v) {
			return false
		}
	}
	return true
}

func allowedBy(values []any, v any) bool {
	if len(values) == 0 {
		return true
	}
	parts := elements(v)
	if len(parts) == 0 {
		return slices.ContainsFunc(values, func(want any) bool { return matches(want, v) })
	}
	among := func(part any) bool {
		return slices.ContainsFunc(values, func(want any) bool { return matches(want, part) })
	}
	return slices.ContainsFunc(values, func(want any) bool { return same(want, v) }) ||
		!slices.ContainsFunc(parts, func(part any) bool { return !among(part) })
}

// elements is what a value is a list of, none when it is no list.
func elements(v any) (parts []any) {
	switch v := v.(type) {
	case []any:
		return slices.Clone(v)
	case string:
		if strings.Contains(v, ",") {
			for part := range strings.SplitSeq(v, ",") {
				parts = append(parts, strings.TrimSpace(part))
			}
		}
	}
	return parts
}

// same tells whether v is the value of a policy: the same text, or the same JSON.
func same(want, v any) bool {
	text, scalar := spell(v)
	plain, ok := spell(want)
	if ok || scalar {
		return ok && scalar && plain == text
	}
	a, errA := json.Marshal(want)
	b, errB := json.Marshal(v)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// matches is same, where "*" at either end of a policy's text stands for anything.
func matches(want, v any) bool {
	pattern, globs := want.(string)
	text, scalar := spell(v)
	if !globs || !scalar {
		return same(want, v)
	}
	tail, before := strings.CutPrefix(pattern, "*")
	head, after := strings.CutSuffix(tail, "*")
	switch {
	case pattern == "*":
		return true
	case before && after:
		return strings.Contains(text, head)
	case before:
		return strings.HasSuffix(text, tail)
	case after:
		return strings.HasPrefix(text, head)
	}
	return text == pattern
}

// alike tells whether the API may read v as the value of a policy, or as one that
// its pattern is for.
func alike(want, v any) bool {
	if v == nil { // which is the zero value
		v = ""
	}
	if want == nil {
		want = ""
	}
	if matches(want, v) {
		return true
	}
	a, ok := spell(want)
	b, scalar := spell(v)
	if !ok || !scalar {
		return false
	}
	a, b = CanonicalName(a), CanonicalName(b)
	if matches(a, b) {
		return true
	}
	if x, err := readBool(a); err == nil {
		if y, err := readBool(b); err == nil && x == y {
			return true
		}
	}
	if x, err := readNumber(a); err == nil {
		if y, err := readNumber(b); err == nil && x == y {
			return true
		}
	}
	x, err := ParseDuration(a)
	y, err2 := ParseDuration(b)
	return err == nil && err2 == nil && x == y
}

func readBool(text string) (bool, error) {
	if text == "" {
		return false, nil
	}
	return strconv.ParseBool(text)
}

func readNumber(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	return strconv.ParseFloat(text, 64)
}

// MaxDuration is the longest that [ParseDuration] reads, either way.
const MaxDuration = 100 * 365 * 24 * time.Hour

// ParseDuration reads a duration as Vault does: "90" (seconds), "1h30m", "30d";
// empty and "system" are 0. The error is [ErrInvalid].
func ParseDuration(text string) (time.Duration, error) {
	if text == "" || text == "system" {
		return 0, nil
	}
	const day = int64(24 * time.Hour)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n >= -int64(MaxDuration/time.Second) && n <= int64(MaxDuration/time.Second) {
			return time.Duration(n) * time.Second, nil
		}
	} else if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseInt(days, 10, 64); err == nil && n >= -int64(MaxDuration)/day && n <= int64(MaxDuration)/day {
			return time.Duration(n * day), nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d.Abs() <= MaxDuration {
		return d, nil
	}
	return 0, mistake("%q is not a duration like 90, \"90s\" or \"1h30m\", of at most 100 years", text)
}

// spell returns a string, a number or a boolean as text.
func spell(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			if f, err := v.Float64(); err == nil {
				return strconv.FormatFloat(f, 'f', -1, 64), true
			}
		}
		return v.String(), true
	}
	return "", false
}

// fold maps names that encoding/json takes for the same to one, which is in lower
// case where they have one.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		lower := unicode.ToLower(least)
		for f := unicode.SimpleFold(least); f != least; f = unicode.SimpleFold(f) {
			if f == lower {
				return lower
			}
		}
		return least
	}, name)
}
