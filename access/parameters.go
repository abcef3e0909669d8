package access

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// A ParameterKind says how the handler reads a parameter, and so which texts mean the
// same value to it.
type ParameterKind uint8

const (
	AnyParameter      ParameterKind = iota // not known: all forms that any handler reads as the same
	TextParameter                          // a text; a number or a boolean is the text that spells it
	FlagParameter                          // true or false
	NumberParameter                        // a number
	DurationParameter                      // see [ParseDuration]
	ListParameter                          // a list of texts, or a text with commas
	JSONParameter                          // JSON: numbers are compared by value, texts exactly
)

// Check returns [ErrDenied] unless the grant allows a request with these parameters,
// which are as encoding/json decodes them, with json.Number. kind says how the handler
// reads each; nil means that this is not known. Check is for reads and writes, not for
// lists, scans and deletions.
//
// The rules see what the handler will read:
//
//   - A name must be spelled as in the API, in lower case. Another spelling, which the
//     handler ignores, is refused. If free is set, the names are the client's data and
//     are compared without regard to case.
//   - A parameter counts as given if it has a value: null, "" and the empty list do not
//     count. Nor are they among the allowed values where values are listed, since for
//     them the handler uses its default, which may allow more.
//   - Values that the handler reads as the same are the same: true, 1 and "T"; 768h,
//     2764800 and "32d". Where any value is denied, a value that is not of the
//     parameter's kind is, too.
//   - A list, or a text with commas that the handler splits, is allowed if all of its
//     elements are, or if it is as a whole, and denied if one of them is. So ["app-*"]
//     allows ["app-x"], which Vault would not.
//   - A denied text is also denied in upper case, and under an older name of the
//     parameter.
func (g Grant) Check(params map[string]any, kind func(name string) ParameterKind, free bool) error {
	if !g.Restricted() {
		return nil
	}
	names := make(map[string]bool, len(params))
	for name, v := range params {
		if !free && fold(name) != name {
			return ErrDenied
		}
		if !empty(v) {
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
		k := AnyParameter
		if kind != nil {
			k = kind(name)
		}
		if name = fold(name); g.rule.denies(name, v, k) || !g.rule.allows(name, v, k) {
			return ErrDenied
		}
	}
	return nil
}

// empty reports whether a value counts as not given.
func empty(v any) bool {
	list, ok := v.([]any)
	return v == nil || v == "" || ok && len(list) == 0
}

// sameParameter lists names of the API that mean the same parameter.
var sameParameter = [][]string{
	{"ttl", "token_ttl", "lease"}, {"max_ttl", "token_max_ttl"}, {"explicit_max_ttl", "token_explicit_max_ttl"}, {"period", "token_period"},
	{"policies", "token_policies"}, {"num_uses", "token_num_uses"}, {"bound_cidrs", "token_bound_cidrs"},
	{"secret_id_bound_cidrs", "bound_cidr_list"}, {"path", "paths"}, {"policy", "rules"},
}

// sameAs returns all names of a parameter.
func sameAs(name string) []string {
	for _, names := range sameParameter {
		if slices.Contains(names, name) {
			return names
		}
	}
	return []string{name}
}

func (r *rule) denies(name string, v any, kind ParameterKind) bool {
	for _, name := range sameAs(name) {
		values, ok := r.denied[name]
		if !ok {
			continue
		}
		if len(values) == 0 || !kind.fits(v) {
			return true
		}
		for _, e := range append(kind.elements(v), v) {
			if slices.ContainsFunc(values, func(want any) bool { return kind.alike(want, e) }) {
				return true
			}
		}
	}
	return false
}

func (r *rule) allows(name string, v any, kind ParameterKind) bool {
	if r.allowed == nil {
		return true
	}
	if values, ok := r.allowed[name]; ok {
		return kind.allowedBy(values, v)
	}
	if _, others := r.allowed["*"]; !others {
		return false
	}
	for _, name := range sameAs(name) { // a value that is not allowed under one name is not allowed under another
		if values, ok := r.allowed[name]; ok && !kind.allowedBy(values, v) {
			return false
		}
	}
	return true
}

func (k ParameterKind) allowedBy(values []any, v any) bool {
	if len(values) == 0 {
		return true
	}
	if slices.ContainsFunc(values, func(want any) bool { return same(want, v) }) {
		return true
	}
	if empty(v) {
		return false
	}
	among := func(part any) bool {
		return !empty(part) && slices.ContainsFunc(values, func(want any) bool { return matches(want, part) || k != AnyParameter && k.means(want, part) })
	}
	parts := k.elements(v)
	if parts == nil {
		return among(v)
	}
	return !slices.ContainsFunc(parts, func(part any) bool { return !among(part) })
}

// elements returns the elements of a value, or nil if it is not a list.
func (k ParameterKind) elements(v any) (parts []any) {
	if k != AnyParameter && k != ListParameter {
		return nil
	}
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

// fits reports whether the handler can read a value.
func (k ParameterKind) fits(v any) bool {
	text, scalar := spell(v)
	var err error
	switch {
	case v == nil || k == AnyParameter || k == JSONParameter || k == ListParameter:
		return true
	case !scalar:
		return false
	case k == FlagParameter:
		_, err = readBool(text)
	case k == NumberParameter:
		_, err = readNumber(text)
	case k == DurationParameter:
		_, err = ParseDuration(text)
	}
	return err == nil
}

// same reports whether v equals the value of a policy: the same text, or the same
// JSON, with numbers compared by value.
func same(want, v any) bool {
	text, scalar := spell(v)
	plain, ok := spell(want)
	if ok || scalar {
		return ok && scalar && plain == text
	}
	return identical(want, v)
}

// identical reports whether two values are the same JSON.
func identical(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, value := range a {
			if other, ok := b[name]; !ok || !identical(value, other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, identical)
	case json.Number:
		b, ok := b.(json.Number)
		return ok && spellNumber(a.String()) == spellNumber(b.String())
	}
	return a == b
}

// matches is like same, but "*" at either end of a policy's text matches anything.
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

// alike reports whether the handler may read v as the value of a policy, or as one
// that matches the policy's pattern.
func (k ParameterKind) alike(want, v any) bool {
	if k == JSONParameter {
		return matches(want, v)
	}
	if v == nil { // null means the zero value
		v = ""
	}
	if want == nil {
		want = ""
	}
	if matches(want, v) || k.means(want, v) {
		return true
	}
	a, ok := spell(want)
	b, scalar := spell(v)
	return ok && scalar && matches(CanonicalName(a), CanonicalName(b))
}

// means reports whether the handler reads two scalars as the same value.
func (k ParameterKind) means(want, v any) bool {
	a, ok := spell(want)
	b, scalar := spell(v)
	if !ok || !scalar {
		return false
	}
	a, b = CanonicalName(a), CanonicalName(b)
	any := k == AnyParameter
	return (any || k == FlagParameter) && bothRead(a, b, readBool) ||
		(any || k == NumberParameter) && bothRead(a, b, readNumber) ||
		(any || k == DurationParameter) && bothRead(a, b, ParseDuration)
}

// bothRead reports whether two texts are read as the same value.
func bothRead[T comparable](a, b string, read func(string) (T, error)) bool {
	x, err := read(a)
	y, err2 := read(b)
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

// MaxDuration is the longest duration that [ParseDuration] reads, positive or negative.
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
		return spellNumber(v.String()), true
	}
	return "", false
}

// maxExponent bounds the digits of a number that spellNumber writes out.
const maxExponent = 400

// spellNumber writes a JSON number without an exponent and without redundant zeros. A
// number whose exponent is too large stays as it is.
func spellNumber(text string) string {
	mantissa, exponent, scientific := strings.Cut(strings.ToLower(text), "e")
	if !scientific && !strings.Contains(text, ".") {
		return text
	}
	n := 0
	if scientific {
		var err error
		if n, err = strconv.Atoi(exponent); err != nil || n < -maxExponent || n > maxExponent {
			return text
		}
	}
	digits, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	if n >= 0 {
		fraction += strings.Repeat("0", max(0, n-len(fraction)))
		whole, fraction = whole+fraction[:n], fraction[n:]
	} else {
		whole = strings.Repeat("0", max(0, -n-len(whole))) + whole
		whole, fraction = whole[:len(whole)+n], whole[len(whole)+n:]+fraction
	}
	whole, fraction = strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0")
	if whole == "" {
		whole = "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	if negative && whole != "0" {
		whole = "-" + whole
	}
	return whole
}

// FoldParameter returns the form in which the names of parameters are compared: names
// that differ only in case have the same form.
func FoldParameter(name string) string { return fold(name) }

// fold maps names that encoding/json treats as the same to one name, in lower case if
// possible.
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
