package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
)

// A pos is a place in a file; line 0 is the environment or a file as a whole.
type pos struct {
	file string
	line int
}

const environment = "environment"

func (p pos) String() string {
	if p.line == 0 {
		return p.file
	}
	return p.file + ":" + strconv.Itoa(p.line)
}

func posOf(r hcl.Range) pos { return pos{r.Filename, r.Start.Line} }

// A value is what the operator wrote for one setting, as text.
type value struct {
	text string
	at   pos
	name string // the key, or the variable's name
	via  string // `env("X")` or file:///path, if the text came from there
	bad  bool   // given but wrong, and reported
	def  bool   // not given: the default
}

// origin returns the place of a value for Param.Origin.
func (v value) origin() string {
	o := v.at.String()
	if v.def {
		o = "default"
	} else if v.at.file == environment {
		o = v.name
	}
	if v.via != "" {
		o += " (" + v.via + ")"
	}
	return o
}

// A block is one block of a file, with the values that its scopes know.
type block struct {
	label  string
	name   string // the second label, if this kind of block has one
	at     pos
	values map[string]value
}

// parse reads one file into l.top, l.storage, l.listeners and l.seals. The extension .json chooses HCL's JSON syntax.
func (l *loader) parse(name string, src []byte) {
	var f *hcl.File
	var diags hcl.Diagnostics
	if filepath.Ext(name) == ".json" {
		f, diags = json.Parse(src, name)
	} else {
		f, diags = hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	}
	if diags.HasErrors() {
		l.syntax(diags)
		return
	}
	label := []string{"type"}
	nameAudit(f.Body)
	top, blocks := l.body(f.Body, []scope{scopeTop}, hcl.BlockHeaderSchema{Type: "storage", LabelNames: label},
		hcl.BlockHeaderSchema{Type: "listener", LabelNames: label}, hcl.BlockHeaderSchema{Type: "seal", LabelNames: label},
		hcl.BlockHeaderSchema{Type: "recovery", LabelNames: label}, hcl.BlockHeaderSchema{Type: "audit", LabelNames: []string{"type", "name"}})
	for key, v := range top {
		if old, ok := l.top[key]; ok {
			l.errorf(v.at, "%s is already set at %s: keep one", key, old.at)
			continue
		}
		l.top[key] = v
	}
	for _, b := range blocks {
		at := posOf(b.DefRange)
		switch label := b.Labels[0]; b.Type {
		case "storage":
			if label != "bbolt" {
				l.errorf(at, "storage %q does not exist here, and sealkeep does not read the stores of others: write storage \"bbolt\" { path = \"/var/lib/sealkeep/sealkeep.db\" }", label)
				l.noStorage = true
				continue
			}
			values, _ := l.body(b.Body, []scope{scopeStorage})
			l.storage = append(l.storage, block{label: label, at: at, values: values})
		case "listener":
			l.listener(b, label, at)
		case "seal":
			l.sealBlock(b, label, at)
		case "recovery":
			l.recoveryBlock(b, label, at)
		case "audit":
			l.auditBlock(b, label, b.Labels[1], at)
		}
	}
}

func (l *loader) listener(b *hcl.Block, label string, at pos) {
	own := scope(fmt.Sprintf("listener %q", label))
	if own != scopeTCP && own != scopeUnix {
		l.errorf(at, "listener %q does not exist here: write listener \"tcp\" or listener \"unix\"", label)
		return
	}
	values, blocks := l.body(b.Body, []scope{own, scopeListener}, hcl.BlockHeaderSchema{Type: "telemetry"})
	for _, t := range blocks {
		more, _ := l.body(t.Body, []scope{scopeTelemetry})
		maps.Copy(values, more)
	}
	l.listeners = append(l.listeners, block{label: label, at: at, values: values})
}

func (l *loader) recoveryBlock(b *hcl.Block, label string, at pos) {
	own := scope(fmt.Sprintf("recovery %q", label))
	if own != scopeAge && own != scopeShares {
		l.errorf(at, "recovery %q does not exist here: write recovery \"age\" { recipients = [\"age1...\"] }, or recovery \"shares\" {}", label)
		return
	}
	for _, r := range l.recovery {
		if r.label == label {
			l.errorf(at, "recovery %q is already set at %s: keep one", label, r.at)
			return
		}
	}
	values, _ := l.body(b.Body, []scope{own})
	l.recovery = append(l.recovery, block{label: label, at: at, values: values})
}

func (l *loader) sealBlock(b *hcl.Block, label string, at pos) {
	if why := unknownSeal(label); why != "" {
		l.errorf(at, "seal %q %s", label, why)
		l.noSeal = true
		return
	}
	values, _ := l.body(b.Body, []scope{sealScope(label), scopeSeal})
	l.seals = append(l.seals, block{label: label, at: at, values: values})
}

// unknownSeal says why a type of seal cannot be used and what to do, or returns "" if it can.
func unknownSeal(typ string) string {
	switch {
	case slices.Contains(sealTypes(), typ):
		return ""
	case typ == "shamir":
		return "does not exist here, for a keep opens itself: write a seal of type " + list(sealTypes(), "or")
	case typ == "vault":
		return "does not exist here: write vaultkv for a key in a KV secret, or transit"
	case slices.Contains([]string{"gcpckms", "azurekeyvault", "alicloudkms", "ocikms", "pkcs11", "kmip", "securosyshsm", "hsm", "ovhcloud", "tcloudpublic"}, typ):
		return "does not exist here: wrap with " + list(sealTypes(), "or") +
			"; a Vault or OpenBao that can use this key service can serve it as Transit"
	}
	return fmt.Sprintf("does not exist here: %s", suggest(typ, sealTypes()))
}

// body reads the values of one body and returns its blocks of the given kinds. A key that its scopes do not know is a
// mistake; one that they only tolerate is a warning.
func (l *loader) body(b hcl.Body, in []scope, blocks ...hcl.BlockHeaderSchema) (map[string]value, hcl.Blocks) {
	schema := &hcl.BodySchema{Blocks: blocks}
	var known []string
	for _, s := range rows(in...) {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: s.key})
		known = append(known, s.key)
	}
	for _, s := range blocks {
		known = append(known, s.Type)
	}
	content, rest, diags := b.PartialContent(schema)
	l.syntax(diags)
	for name, u := range l.left(b, rest, schema) {
		l.unknown(name, u, in, known, blocks)
	}
	values := make(map[string]value)
	for name, attr := range content.Attributes {
		s, _ := find(name, in...)
		if v, ok := l.eval(attr, s.kind); ok || v.bad {
			values[name] = v
		}
	}
	return values, content.Blocks
}

// A leftover is an attribute, or a block (without an expression), that is not in a schema.
type leftover struct {
	at   pos
	expr hcl.Expression
}

// left returns by name what is in a body but not in the schema.
func (l *loader) left(b, rest hcl.Body, schema *hcl.BodySchema) map[string]leftover {
	out := make(map[string]leftover)
	native, ok := b.(*hclsyntax.Body)
	if !ok {
		attrs, diags := rest.JustAttributes()
		l.syntax(diags)
		for name, a := range attrs {
			out[name] = leftover{posOf(a.NameRange), a.Expr}
		}
		return out
	}
	for name, a := range native.Attributes {
		if !slices.ContainsFunc(schema.Attributes, func(s hcl.AttributeSchema) bool { return s.Name == name }) {
			out[name] = leftover{posOf(a.NameRange), a.Expr}
		}
	}
	for _, sub := range native.Blocks {
		if _, seen := out[sub.Type]; !seen && !slices.ContainsFunc(schema.Blocks, func(s hcl.BlockHeaderSchema) bool { return s.Type == sub.Type }) {
			out[sub.Type] = leftover{at: posOf(sub.TypeRange)}
		}
	}
	return out
}

func (l *loader) unknown(name string, u leftover, in []scope, known []string, blocks []hcl.BlockHeaderSchema) {
	at := u.at
	s, ok := find(name, in...)
	switch {
	case ok && s.ignored != "":
		l.warnf(at, "%s has no effect: %s", name, s.ignored)
	case ok && s.refused != "" && s.kind == boolean && off(u.expr): // asks for what is always so
	case ok && s.refused != "":
		l.errorf(at, "%s is not supported: %s", name, s.refused)
		l.noStorage = l.noStorage || name == "backend"
	case ok:
		l.errorf(at, "%s is not a block: write %s = ...", name, name)
	default:
		if i := slices.IndexFunc(blocks, func(b hcl.BlockHeaderSchema) bool { return b.Type == name }); i >= 0 {
			form := name
			if len(blocks[i].LabelNames) > 0 {
				form += ` "TYPE"`
			}
			l.errorf(at, "%s is a block: write %s { ... }", name, form)
			return
		}
		help := suggest(name, known)
		if i := slices.IndexFunc(table, func(s setting) bool { return s.key == name }); i >= 0 {
			help = "it belongs into " + string(table[i].in)
		}
		l.errorf(at, "unknown key %q in %s: %s", name, in[0], help)
	}
}

// suggest names the known word closest to what was written, or else all known words.
func suggest(word string, known []string) string {
	best, least := "", len(word)/3+2
	for _, k := range known {
		if d := levenshtein.Distance(word, k, nil); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) == 0 {
		return "there is nothing to set here, remove it"
	}
	return "known here: " + strings.Join(known, ", ")
}

// eval computes an attribute as text: numbers and booleans are written out, null counts as unset, and the texts of a
// list, where one is allowed, are joined by commas.
func (l *loader) eval(attr *hcl.Attribute, k kind) (value, bool) {
	l.via = nil
	v := value{at: posOf(attr.NameRange), name: attr.Name}
	expr, diags := native(attr.Expr)
	if why := computes(expr); why != "" {
		l.errorf(v.at, "%s: %s", attr.Name, why)
		v.bad = true
		return v, false
	}
	var got cty.Value
	if !diags.HasErrors() {
		got, diags = expr.Value(l.functions())
	}
	v.via = strings.Join(l.via, ", ")
	if diags.HasErrors() {
		for _, d := range diags.Errs() {
			l.errorf(v.at, "%s: %s", attr.Name, explain(d.(*hcl.Diagnostic)))
		}
		v.bad = true
		return v, false
	}
	if got.IsNull() || !got.IsKnown() {
		return v, false
	}
	list, isList := joined(got)
	switch {
	case k == texts && isList:
		v.text = list
	case got.Type() == cty.String:
		v.text = got.AsString()
	case k == texts:
		l.errorf(v.at, "%s: write texts in quotes, in brackets with commas between them", attr.Name)
		v.bad = true
		return v, false
	case got.Type() == cty.Number:
		v.text = got.AsBigFloat().Text('f', -1)
	case got.Type() == cty.Bool:
		v.text = strconv.FormatBool(got.True())
	default:
		l.errorf(v.at, "%s: write one text in quotes, one number, true or false", attr.Name)
		v.bad = true
		return v, false
	}
	return v, true
}

// joined returns the texts of a list, and whether it is one.
func joined(v cty.Value) (string, bool) {
	if !v.CanIterateElements() || v.Type().IsObjectType() || v.Type().IsMapType() {
		return "", false
	}
	var out []string
	for _, e := range v.AsValueSlice() {
		if e.IsNull() || !e.IsKnown() || e.Type() != cty.String {
			return "", false
		}
		out = append(out, e.AsString())
	}
	return strings.Join(out, ","), true
}

// off reports whether an expression is false in one of Vault's ways of writing it. Functions are not called.
func off(expr hcl.Expression) bool {
	if expr == nil || computes(expr) != "" {
		return false
	}
	v, diags := expr.Value(nil)
	if diags.HasErrors() || v.IsNull() || !v.IsKnown() {
		return false
	}
	switch v.Type() {
	case cty.Bool:
		return v.False()
	case cty.Number:
		return v.AsBigFloat().Sign() == 0
	case cty.String:
		b, err := strconv.ParseBool(v.AsString())
		return err == nil && !b
	}
	return false
}

// native returns the expression inside a JSON value: HCL parses templates in JSON only when it evaluates them.
func native(expr hcl.Expression) (hcl.Expression, hcl.Diagnostics) {
	if _, ok := expr.(hclsyntax.Expression); ok {
		return expr, nil
	}
	v, diags := expr.Value(nil) // without a context, text stays as written
	if !diags.HasErrors() && v.Type() == cty.String {
		return hclsyntax.ParseTemplate([]byte(v.AsString()), expr.Range().Filename, expr.Range().Start)
	}
	return hcl.StaticExpr(v, expr.Range()), diags
}

// computes says what in an expression could keep the parser computing for ever, or returns "" if nothing could: loops,
// operators, and absurd numbers such as 1e99999999.
func computes(expr hcl.Expression) string {
	why := ""
	look := func(v cty.Value) {
		if v.Type() == cty.Number && !v.IsNull() && v.IsKnown() {
			if f := v.AsBigFloat(); f.IsInf() || f.MantExp(nil) > 128 || f.MantExp(nil) < -128 {
				why = "the number is too large, or too near to 0: write another, or text in quotes"
			}
		}
	}
	node, ok := expr.(hclsyntax.Expression)
	if !ok {
		v, _ := expr.Value(nil)
		look(v)
		return why
	}
	hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.LiteralValueExpr:
			look(n.Val)
		case *hclsyntax.BinaryOpExpr, *hclsyntax.ForExpr, *hclsyntax.SplatExpr, *hclsyntax.TemplateJoinExpr:
			why = "nothing is computed here: write the value itself"
		}
		return nil
	})
	return why
}

// syntax records the errors of the HCL parser. A file with errors does not reliably show what is missing.
func (l *loader) syntax(diags hcl.Diagnostics) {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		var at pos
		if d.Subject != nil {
			at = posOf(*d.Subject)
		}
		l.errorf(at, "%s", explain(d))
		l.broken = true
	}
}

var quoted = regexp.MustCompile(`"[^"]*"`)

// explain turns a diagnostic of HCL into a sentence. Some quote the text around the mistake, which may be a secret, so
// only words of the table and punctuation stay in quotes.
func explain(d *hcl.Diagnostic) string {
	if call, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](d); ok && call.FunctionCallError() != nil {
		return call.FunctionCallError().Error()
	}
	switch d.Summary {
	case "Variables not allowed":
		return `text must stand in double quotes, and there are no variables (env("NAME") reads the environment)`
	case "Invalid argument name":
		return "names of arguments have no quotes around them: remove those; where that is not possible, as with custom_response_headers, remove the block"
	case "Invalid single-argument block definition":
		return "a block with several arguments does not fit on one line: write each argument on a line of its own"
	case "Call to unknown function":
		return `there is no such function: env("NAME"), file("/path") and credential("name") are known; a plain text must stand in double quotes`
	}
	detail := quoted.ReplaceAllStringFunc(d.Detail, func(q string) string {
		word := strings.Trim(q, `"`)
		if len(word) <= 2 || slices.ContainsFunc(table, func(s setting) bool { return s.key == word }) {
			return q
		}
		return `"..."`
	})
	return strings.TrimSuffix(strings.ToLower(d.Summary[:1])+d.Summary[1:]+": "+detail, ".")
}
