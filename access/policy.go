package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// A Capability is a set of capabilities, which a policy can allow on a path.
type Capability uint16

const (
	CanCreate Capability = 1 << iota
	CanRead
	CanUpdate
	CanPatch
	CanDelete
	CanList
	CanScan // list a folder and all folders in it
	CanSudo
	Denied // takes precedence over all others
	isRoot // everything
)

var capabilities = []struct {
	name string
	bit  Capability
}{{"create", CanCreate}, {"delete", CanDelete}, {"deny", Denied}, {"list", CanList}, {"patch", CanPatch},
	{"read", CanRead}, {"scan", CanScan}, {"sudo", CanSudo}, {"update", CanUpdate}}

// ParseCapability reads the name of one capability.
func ParseCapability(word string) (c Capability, ok bool) {
	for _, k := range capabilities {
		if k.name == word {
			return k.bit, true
		}
	}
	return 0, false
}

// Names lists the set as sys/capabilities does: sorted; ["deny"] if it is empty,
// ["root"] for the root policy.
func (c Capability) Names() []string {
	switch {
	case c&isRoot != 0:
		return []string{RootPolicy}
	case c == 0 || c&Denied != 0:
		return []string{"deny"}
	}
	var names []string
	for _, k := range capabilities {
		if c&k.bit != 0 {
			names = append(names, k.name)
		}
	}
	return names
}

// Has reports whether all of need is allowed.
func (c Capability) Has(need Capability) bool {
	return c&isRoot != 0 || c&Denied == 0 && c&need == need
}

// MaxPolicy is the longest text of a policy, in bytes.
const MaxPolicy = 128 << 10

// maxNesting is how deep the text of a policy may be nested; values of parameters
// need about five levels. The parser itself has no bound.
const maxNesting = 32

// A Policy is a list of paths, each with what is allowed there. It is immutable.
type Policy struct {
	Name  string
	Text  string // as written
	rules []*rule
}

// Paths lists the paths of the policy's rules, without a leading slash.
func (p *Policy) Paths() []string {
	paths := make([]string, len(p.rules))
	for i, r := range p.rules {
		paths[i] = r.pattern
	}
	return paths
}

// Size returns approximately how many bytes of memory the policy takes.
func (p *Policy) Size() int {
	size := 256 + len(p.Text)
	for _, r := range p.rules {
		size += r.size()
	}
	return size
}

// ParsePolicy reads a policy in HCL or, if its first character is a brace, in JSON.
// The error is [ErrInvalid] with a line for each mistake.
func ParsePolicy(name, text string) (*Policy, error) {
	if len(text) > MaxPolicy {
		return nil, mistake("the policy has %d bytes: at most %d are accepted", len(text), MaxPolicy)
	}
	parse, check := hclsyntaxParse, checkTokens
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		parse, check = hcljson.Parse, checkJSON
	}
	if err := check([]byte(text)); err != nil {
		return nil, err
	}
	file, diags := parse([]byte(text), "policy")
	if diags.HasErrors() {
		return nil, mistakes(diags)
	}
	content, diags := file.Body.Content(&hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "name"}}, // some policies have it; only the API's path counts
		Blocks:     []hcl.BlockHeaderSchema{{Type: "path", LabelNames: []string{"path"}}},
	})
	p := &Policy{Name: name, Text: text}
	for _, b := range content.Blocks {
		r, more := parseRule(b)
		if diags = append(diags, more...); r != nil {
			p.rules = append(p.rules, r)
		}
	}
	if diags.HasErrors() {
		return nil, mistakes(diags)
	}
	return p, nil
}

func hclsyntaxParse(src []byte, name string) (*hcl.File, hcl.Diagnostics) {
	return hclsyntax.ParseConfig(src, name, hcl.InitialPos)
}

// mistakes combines the diagnostics into one error of at most ten lines.
func mistakes(diags hcl.Diagnostics) error {
	var lines []string
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		line := strings.TrimSuffix(d.Summary, ".")
		if d.Detail != "" {
			line += ": " + d.Detail
		}
		if d.Subject != nil {
			line = fmt.Sprintf("line %d: %s", d.Subject.Start.Line, line)
		}
		if lines = append(lines, line); len(lines) == 10 {
			break
		}
	}
	return mistake("the policy is wrong: %s", strings.Join(lines, "\n"))
}

// literals lists the tokens of a policy: blocks and values. All others form
// expressions, for which a policy has no use.
var literals = []hclsyntax.TokenType{
	hclsyntax.TokenOBrace, hclsyntax.TokenCBrace, hclsyntax.TokenOBrack, hclsyntax.TokenCBrack, hclsyntax.TokenOQuote, hclsyntax.TokenCQuote,
	hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit, hclsyntax.TokenNumberLit,
	hclsyntax.TokenIdent, hclsyntax.TokenEqual, hclsyntax.TokenColon, hclsyntax.TokenComma, hclsyntax.TokenNewline, hclsyntax.TokenComment,
	hclsyntax.TokenEOF,
}

// checkText refuses a comment that does not end, for which the lexer takes time
// quadratic in its length. It skips strings, since "secret/*" begins no comment; to
// know where they end, it refuses templates and heredocs.
func checkText(src []byte) error {
	line := 1
	wrong := func(text string) error { return mistake("the policy is wrong: line %d: %s", line, text) }
	for i := 0; i < len(src); i++ {
		rest := src[i:]
		switch {
		case src[i] == '\n':
			line++
		case src[i] == '#' || bytes.HasPrefix(rest, []byte("//")):
			n := bytes.IndexByte(rest, '\n')
			if n < 0 {
				return nil
			}
			i += n - 1
		case bytes.HasPrefix(rest, []byte("/*")):
			n := bytes.Index(rest[2:], []byte("*/"))
			if n < 0 {
				return wrong("the comment does not end")
			}
			line += bytes.Count(rest[:n], []byte("\n"))
			i += n + 3
		case bytes.HasPrefix(rest, []byte("<<")):
			return wrong("write the value in quotes: heredocs are not supported")
		case src[i] == '"':
			for i++; i < len(src) && src[i] != '"'; i++ {
				switch {
				case src[i] == '\n':
					return wrong("the string does not end")
				case src[i] == '\\':
					i++
				case (src[i] == '$' || src[i] == '%') && i+1 < len(src) && src[i+1] == '{':
					return wrong("a policy has values only, no expressions")
				}
			}
		}
	}
	return nil
}

// checkTokens refuses, before parsing, what would be expensive to parse.
func checkTokens(src []byte) error {
	if err := checkText(src); err != nil {
		return err
	}
	tokens, diags := hclsyntax.LexConfig(src, "policy", hcl.InitialPos)
	if diags.HasErrors() {
		return mistakes(diags)
	}
	depth := 0
	for i, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack:
			depth--
		case hclsyntax.TokenMinus:
			if tokens[i+1].Type != hclsyntax.TokenNumberLit { // the last token is EOF
				return mistake("the policy is wrong: line %d: a minus without a number", t.Range.Start.Line)
			}
			continue
		case hclsyntax.TokenNumberLit:
			if bytes.ContainsAny(t.Bytes, "eE") {
				return mistake("the policy is wrong: line %d: write the number %q without an exponent", t.Range.Start.Line, shorten(t.Bytes))
			}
		case hclsyntax.TokenIdent:
			if string(t.Bytes) == "for" {
				return mistake("the policy is wrong: line %d: a policy has values only, no expressions", t.Range.Start.Line)
			}
		}
		if depth > maxNesting {
			return mistake("the policy is wrong: line %d: nested deeper than %d levels", t.Range.Start.Line, maxNesting)
		}
		if !slices.Contains(literals, t.Type) {
			return mistake("the policy is wrong: line %d: %q does not belong in a policy, which has values only, no expressions", t.Range.Start.Line, shorten(t.Bytes))
		}
	}
	return nil
}

// checkJSON does the same for JSON.
func checkJSON(src []byte) error {
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	for depth := 0; ; {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return mistake("the policy is wrong: it begins with a brace, but is not JSON: %v", err)
		}
		switch t := t.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
			if depth > maxNesting {
				return mistake("the policy is wrong: nested deeper than %d levels", maxNesting)
			}
		case json.Number:
			if strings.ContainsAny(t.String(), "eE") {
				return mistake("the policy is wrong: write the number %q without an exponent", shorten([]byte(t)))
			}
		}
	}
}

func shorten(b []byte) string { return string(b[:min(len(b), 40)]) }

// parseRule reads one path block.
func parseRule(b *hcl.Block) (*rule, hcl.Diagnostics) {
	fault := func(at hcl.Range, format string, args ...any) *hcl.Diagnostic {
		return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: fmt.Sprintf("path %q", b.Labels[0]), Detail: fmt.Sprintf(format, args...), Subject: &at}
	}
	r := &rule{line: b.DefRange.Start.Line}
	if err := r.parsePath(b.Labels[0]); err != nil {
		return nil, hcl.Diagnostics{fault(b.DefRange, "%v", err)}
	}
	attrs, diags := b.Body.JustAttributes()
	for name, a := range attrs {
		var err error
		switch name {
		case "capabilities":
			var words []string
			if words, err = stringList(a.Expr); err != nil {
				break
			}
			for _, word := range words {
				c, ok := ParseCapability(word)
				if !ok {
					err = fmt.Errorf("there is no capability %q: there are create, read, update, patch, delete, list, scan, sudo and deny", word)
					break
				}
				r.caps |= c
			}
		case "policy": // the old form, before capabilities
			var word string
			if err = decodeValue(a.Expr, &word); err != nil {
				break
			}
			switch word {
			case "deny":
				r.caps |= Denied
			case "read":
				r.caps |= CanRead | CanList
			case "write":
				r.caps |= CanCreate | CanRead | CanUpdate | CanDelete | CanList
			case "sudo":
				r.caps |= CanCreate | CanRead | CanUpdate | CanDelete | CanList | CanSudo
			default:
				err = fmt.Errorf("%q is not one of read, write, sudo and deny: use capabilities instead", word)
			}
		case "allowed_parameters":
			r.allowed, err = parameterMap(a.Expr)
		case "denied_parameters":
			r.denied, err = parameterMap(a.Expr)
		case "required_parameters":
			if r.required, err = stringList(a.Expr); err == nil {
				for i := range r.required {
					r.required[i] = fold(r.required[i])
				}
			}
		case "min_wrapping_ttl":
			r.minWrap, err = wrapTTL(a.Expr)
		case "max_wrapping_ttl":
			r.maxWrap, err = wrapTTL(a.Expr)
		case "comment":
		default:
			err = errors.New("not supported: a path has capabilities, allowed_parameters, denied_parameters, required_parameters, min_wrapping_ttl, max_wrapping_ttl and comment")
		}
		if err != nil {
			diags = append(diags, fault(a.Range, "%s: %v", name, err))
		}
	}
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int { // attrs come in random order
		if a.Subject == nil || b.Subject == nil {
			return 0
		}
		return a.Subject.Start.Byte - b.Subject.Start.Byte
	})
	if r.maxWrap > 0 && r.maxWrap < r.minWrap {
		diags = append(diags, fault(b.DefRange, "max_wrapping_ttl is less than min_wrapping_ttl"))
	}
	if r.caps&Denied != 0 {
		r.deny()
	}
	return r, diags
}

// parsePath splits the path of a rule into the parts that are compared.
func (r *rule) parsePath(path string) error {
	r.path = path
	path = strings.TrimPrefix(path, "/")
	switch {
	case path == "":
		return errors.New(`it is empty: "*" is all paths`)
	case strings.Contains(path, "{{"):
		return errors.New("templates in paths are not supported: write the path out, or one policy for each")
	case strings.HasSuffix(path, "+*"):
		return errors.New(`"+*" at the end is not supported: use "*"`)
	}
	r.pattern = path
	r.text, r.prefix = strings.CutSuffix(path, "*")
	r.first = len(r.text)
	r.segments = strings.Split(r.text, "/")
	at := 0
	for _, segment := range r.segments {
		if segment == "+" {
			if r.plus++; r.plus == 1 {
				r.first = at
			}
		}
		at += len(segment) + 1
	}
	return nil
}

// value returns the value of an expression as JSON. The expression has only literals.
func value(x hcl.Expression) ([]byte, error) {
	v, diags := x.Value(nil)
	if diags.HasErrors() {
		return nil, errors.New(diags[0].Detail)
	}
	if !v.IsWhollyKnown() || v.IsNull() {
		return nil, errors.New("it has no value")
	}
	return ctyjson.Marshal(v, v.Type())
}

func decodeValue(x hcl.Expression, to any) error {
	b, err := value(x)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(to); err != nil {
		return errors.New("it has a value of another kind")
	}
	return nil
}

// wrapTTL reads 90, "90" or "1m30s".
func wrapTTL(x hcl.Expression) (time.Duration, error) {
	b, err := value(x)
	if err != nil {
		return 0, err
	}
	text := strings.Trim(string(b), `"`)
	d, err := time.ParseDuration(text)
	if n, number := strconv.ParseInt(text, 10, 32); number == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 {
		return 0, errors.New(`write a duration, like 90 or "1m30s"`)
	}
	return d, nil
}

// stringList reads ["a", "b"].
func stringList(x hcl.Expression) ([]string, error) {
	list := []string{}
	if err := decodeValue(x, &list); err != nil {
		return nil, errors.New(`write a list of strings, like ["read", "list"]`)
	}
	return list, nil
}

// parameterMap reads {"name" = ["value"]}. Names that differ only in case are one name
// with the values of both.
func parameterMap(x hcl.Expression) (map[string][]any, error) {
	var in map[string][]any
	if v, diags := x.Value(nil); !diags.HasErrors() && (v.Type().IsObjectType() || v.Type() == cty.DynamicPseudoType) {
		if err := decodeValue(x, &in); err != nil || in == nil {
			return nil, errors.New(`write names with lists of values, like {"ttl" = ["1h", "2h"], "*" = []}`)
		}
	} else {
		return nil, errors.New(`write names with lists of values, like {"ttl" = ["1h", "2h"], "*" = []}`)
	}
	if len(in) == 0 { // restricts nothing
		return nil, nil
	}
	out := make(map[string][]any, len(in))
	for name, values := range in {
		if name == "*" && len(values) > 0 {
			return nil, errors.New(`"*" takes the empty list only`)
		}
		mergeValues(out, fold(name), values)
	}
	return out, nil
}
