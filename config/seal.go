package config

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// fileSuffix ends the names of variables that hold the path of a file with the value.
const fileSuffix = "_FILE"

// A draft is a seal under construction.
type draft struct {
	block
	typ, name string
	priority  int
	disabled  bool
	unnamed   bool             // the name was wrong and reported
	bare      bool             // the only enabled seal: variables without a name apply to it
	from      value            // says the type
	own       map[string]value // settings that every seal has: name, priority, disabled
	params    map[string]value
}

func (d draft) scope() scope { return sealScope(d.typ) }

// suffix returns the end of the names of variables that apply to this seal.
func (d draft) suffix() string { return "_" + strings.ReplaceAll(d.name, "-", "_") }

func (d draft) String() string {
	if d.name == d.typ {
		return fmt.Sprintf("seal %q", d.typ)
	}
	return fmt.Sprintf("seal %q named %s", d.typ, d.name)
}

func (d draft) seal() Seal {
	s := Seal{Type: d.typ, Name: d.name, Priority: d.priority, Disabled: d.disabled, At: d.at.String(), Params: make(map[string]Param)}
	for key, v := range d.params {
		s.Params[key] = Param{Value: v.text, Origin: v.origin()}
	}
	return s
}

// finishSeals makes the seals from their blocks and the variables.
func (l *loader) finishSeals() []draft {
	var drafts []draft
	enabled := 0
	for _, b := range l.seals {
		v := l.read(b, scopeSeal)
		d := draft{block: b, typ: b.label, from: value{at: b.at}, own: v, name: v["name"].text, disabled: v["disabled"].text == "true"}
		d.unnamed = d.name == "" && (b.values["name"].text != "" || b.values["name"].bad)
		d.priority, _ = strconv.Atoi(v["priority"].text) // "" is 0, and the rest was checked
		if !d.disabled {
			enabled++
		}
		drafts = append(drafts, d)
	}
	if enabled == 0 {
		v, ok := l.variables(sealType, draft{bare: true})
		switch {
		case ok && v.text == "": // wrong, and reported
		case ok:
			drafts = append(drafts, draft{typ: v.text, from: v, own: l.read(block{}, scopeSeal), bare: true, block: block{at: v.at}})
			enabled++
		case len(l.recovery) > 0: // people open the keep
		case len(drafts) > 0:
			l.errorf(drafts[0].at, "every seal is disabled, and a keep needs one to wrap its root key with: remove disabled = true from one, or add another")
		case !l.broken && !l.noSeal:
			l.missingSeal()
		}
	}
	for i := range drafts {
		d := &drafts[i]
		d.bare = enabled == 1 && !d.disabled
		if d.at.file != environment {
			l.retype(d)
		}
		if d.name == "" {
			d.name = d.typ
		}
	}
	if _, ok := l.lookup("KMS_VAULT_KEY_PATH"); ok && !slices.ContainsFunc(drafts, func(d draft) bool { return d.typ == "vaultkv" }) {
		l.warnf(pos{environment, 0}, "KMS_VAULT_KEY_PATH has no effect: no seal is of type vaultkv (KMS_BACKEND=vault makes one)")
	}
	l.ambiguous(drafts, enabled)
	l.uniqueNames(drafts)
	prioritize(drafts)
	l.uniquePriorities(drafts)
	for i := range drafts {
		l.finishParams(&drafts[i], enabled > 1)
	}
	return drafts
}

// retype replaces the type of a block if a variable says so, and drops the parameters of the old type.
func (l *loader) retype(d *draft) {
	asked := *d
	if asked.name == "" {
		asked.name = d.typ
	}
	v, ok := l.variables(sealType, asked)
	if !ok || v.text == "" || v.text == d.typ {
		return
	}
	var dropped []string
	for _, s := range rows(d.scope()) {
		if _, ok := d.values[s.key]; ok {
			dropped = append(dropped, s.key)
		}
	}
	what := "this block"
	if len(dropped) > 0 {
		what += " and drops " + list(dropped, "and")
	}
	l.warnf(d.at, "%s=%s replaces %s: to use the block, unset %s", v.name, v.text, what, v.name)
	d.typ, d.from, d.values = v.text, v, nil
	d.at = v.at
}

// uniqueNames requires names that differ, also as the ends of variables.
func (l *loader) uniqueNames(drafts []draft) {
	seen := make(map[string]draft)
	for _, d := range drafts {
		if d.unnamed {
			continue
		}
		if old, ok := seen[d.suffix()]; ok {
			l.errorf(d.at, "two seals are named %s, the other one is at %s: write name = \"...\" in one of the blocks, for a slot goes by its seal's name (- and _ count as the same)", d.name, old.at)
			continue
		}
		seen[d.suffix()] = d
	}
}

// prioritize gives the seals without a priority their place in the order of appearance, enabled ones first.
func prioritize(drafts []draft) {
	place := 0
	for _, disabled := range []bool{false, true} {
		for i := range drafts {
			if d := &drafts[i]; d.disabled == disabled {
				place++
				if d.priority == 0 {
					d.priority = place
				}
			}
		}
	}
}

func (l *loader) uniquePriorities(drafts []draft) {
	seen := make(map[int]draft)
	for _, d := range drafts {
		if d.disabled {
			continue
		}
		if old, ok := seen[d.priority]; ok {
			l.errorf(d.at, "seal %s has priority %d, as has seal %s at %s: write another priority (without one, a seal has its place in the order of appearance)", d.name, d.priority, old.name, old.at)
			continue
		}
		seen[d.priority] = d
	}
}

// ambiguous refuses variables that steer a seal but do not say which of several.
func (l *loader) ambiguous(drafts []draft, enabled int) {
	if enabled < 2 {
		return
	}
	var names []string
	bare := slices.Clone(sealType.steer)
	for _, d := range drafts {
		if d.disabled {
			continue
		}
		names = append(names, d.name)
		for _, s := range rows(d.scope()) {
			bare = append(bare, s.steer...)
		}
	}
	for _, name := range bare {
		if _, ok := l.lookup(name); !ok {
			continue
		}
		var meant []string
		for _, d := range drafts {
			if !d.disabled {
				meant = append(meant, name+d.suffix())
			}
		}
		l.errorf(pos{environment, 0}, "%s does not say which seal it means, %s are enabled: unset it, or set %s", name, list(names, "and"), list(meant, "or"))
	}
}

// missingSeal says what to write if there is no seal.
func (l *loader) missingSeal() {
	var set []string
	for _, s := range table {
		for _, name := range s.steer {
			if _, ok := l.lookup(name); ok {
				set = append(set, name)
			}
		}
	}
	hint := ""
	if len(set) > 0 {
		hint = fmt.Sprintf(" (%s set, but not VAULT_SEAL_TYPE)", list(set, "and"))
	}
	if len(l.paths) > 0 && len(l.files) == 0 {
		hint += " (there is no *.hcl and no *.json file here)"
	}
	l.errorf(l.whole(), `no seal%s: sealkeep needs a key service that wraps its root key. Write into a file for -config

    seal "awskms" {
      kms_key_id = "alias/sealkeep"
      region     = "eu-central-1"
    }

or seal "transit" (address, token, mount_path, key_name), seal "vaultkv" (address, token, key_path) or seal "static"
(current_key, current_key_id; sealkeep keygen makes a key); or recovery "shares" {} for a keep that only people open; or set the
same in the environment:

    VAULT_SEAL_TYPE=awskms
    VAULT_AWSKMS_SEAL_KEY_ID=alias/sealkeep
    AWS_REGION=eu-central-1`, hint)
}

// finishParams resolves every parameter of a seal and checks them together.
func (l *loader) finishParams(d *draft, several bool) {
	d.params = make(map[string]value)
	fileTLS := slices.ContainsFunc(rows(d.scope()), func(s setting) bool {
		return strings.HasPrefix(s.key, "tls_") && d.values[s.key].text != ""
	})
	wrong := false
	for _, s := range rows(d.scope()) {
		if fileTLS && strings.HasPrefix(s.key, "tls_") && d.values[s.key].text == "" {
			l.ignoreTLS(s, *d)
			s.env = nil
		}
		if s.key == "token" && d.values["kube_auth_role"].text != "" {
			s.env = nil // somebody's token must not replace the login that the block asks for
		}
		if off, _ := l.lookup("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"); s.key == "endpoint" && strings.EqualFold(off, "true") {
			s.env = nil // as in every AWS SDK
		}
		v, ok := l.param(s, *d)
		switch {
		case ok && v.text != "":
			d.params[s.key] = v
		case ok:
			wrong = true
		case s.def != "":
			d.params[s.key] = value{text: s.def, at: d.at, name: s.key, def: true}
		case s.key == "current_key_id" && strings.HasPrefix(d.params["current_key"].name, "KMS_KEY"):
			// terraform-backend's variables have no name for the key.
			key, _ := DecodeKey(d.params["current_key"].text) // was checked
			d.params[s.key] = value{text: KeyID(key), at: d.at, name: s.key, def: true}
		case s.key == "token" && d.params["kube_auth_role"].text != "": // it logs in
		case s.required:
			l.noKey = l.noKey || s.key == "current_key" && d.from.text == "static" && strings.HasPrefix(d.from.name, "KMS_BACKEND")
			l.missing(s, *d, several)
			wrong = true
		}
	}
	if !wrong {
		l.together(*d)
	}
}

// ignoreTLS warns about the variables of a setting. TLS settings come either all from the file or all from the
// environment: nobody wants half of each.
func (l *loader) ignoreTLS(s setting, d draft) {
	for _, name := range s.env {
		if _, ok := l.lookup(name); ok {
			l.warnf(d.at, "%s has no effect: this block has tls_ keys of its own, and then no TLS variable counts", name)
		}
	}
}

// param resolves one parameter: variables made to steer a seal, then the file, then the general variables. An empty
// text with true means that the value was wrong and has been reported.
func (l *loader) param(s setting, d draft) (value, bool) {
	file := d.values[s.key]
	if v, ok := l.variables(s, d); ok {
		if f, why := l.resolve(s, file); file.text != "" && (why != "" || f.text != v.text) {
			l.warnf(file.at, "%s has no effect: %s is set to something else and wins", s.key, v.name)
		}
		return v, true
	}
	if file.bad {
		return value{}, true
	}
	if file.text == "" {
		if s.chain {
			return value{}, false
		}
		return l.twins(s, l.all(s.env, ""))
	}
	file, why := l.resolve(s, file)
	if why != "" {
		l.errorf(file.at, "%s: %s", s.key, why)
		return value{}, true
	}
	for _, v := range l.all(s.env, "") {
		if v, why := l.resolve(s, v); why != "" || v.text != file.text {
			l.warnf(file.at, "%s: %s is set to something else; the file wins", s.key, v.name)
		}
	}
	return file, true
}

// variables returns what the steering variables say about a setting of a seal: those that end in its name, and also
// those without a name if it is the only seal.
func (l *loader) variables(s setting, d draft) (value, bool) {
	var set []value
	if d.name != "" {
		set = l.all(s.steer, d.suffix())
	}
	if d.bare {
		set = append(set, l.all(s.steer, "")...)
	}
	v, ok := l.twins(s, set)
	if s.key == sealType.key && v.text != "" {
		if why := unknownSeal(v.text); why != "" {
			if strings.HasPrefix(v.name, "KMS_BACKEND") {
				why = "does not exist here: write local (a key in KMS_KEY or KMS_KEY_FILE), vault (one in KMS_VAULT_KEY_PATH) or transit"
			}
			l.errorf(v.at, "%s=%s %s", v.name, v.text, why)
			v.text = ""
		}
	}
	return v, ok
}

// all returns the variables that are set. A variable whose name ends in _FILE holds the path of a file.
func (l *loader) all(names []string, suffix string) []value {
	var out []value
	for _, name := range names {
		text, ok := l.lookup(name + suffix)
		if !ok {
			continue
		}
		v := value{text: text, at: pos{environment, 0}, name: name + suffix}
		if strings.HasSuffix(name, fileSuffix) {
			v.text = "file://" + text
		}
		if word := map[string]string{"local": "static", "vault": "vaultkv"}[text]; name == "KMS_BACKEND" && word != "" {
			v.text = word
		}
		out = append(out, v)
	}
	return out
}

// twins resolves variables that mean the same and requires them to agree. A file wins over the variable without _FILE,
// as in terraform-backend.
func (l *loader) twins(s setting, set []value) (value, bool) {
	var all []value
	for _, v := range set {
		v, why := l.resolve(s, v)
		if why != "" {
			l.errorf(v.at, "%s: %s", v.name, why)
			return value{}, true
		}
		all = append(slices.DeleteFunc(all, func(other value) bool {
			loses := other.name != v.name && other.name == strings.Replace(v.name, fileSuffix, "", 1) && other.text != v.text
			if loses {
				l.warnf(v.at, "%s has no effect: %s is set to something else and wins", other.name, v.name)
			}
			return loses
		}), v)
	}
	var first value
	for i, v := range all {
		switch {
		case i == 0:
			first = v
		case v.text == first.text:
		case s.firstWins && strings.HasPrefix(first.name, v.name+"_"): // specific to this setting, while the other is general
		case s.firstWins:
			l.warnf(v.at, "%s and %s differ: %s wins, unset the other", first.name, v.name, first.name)
		default:
			l.errorf(v.at, "%s and %s mean the same and differ: unset one of them", first.name, v.name)
			return value{}, true
		}
	}
	return first, len(all) > 0
}

func (l *loader) missing(s setting, d draft, several bool) {
	var ways []string
	if d.at.file != environment {
		ways = append(ways, fmt.Sprintf("write %s = \"...\"", s.key))
	}
	switch {
	case len(s.steer) > 0 && (several || d.disabled):
		ways = append(ways, "set "+s.steer[0]+d.suffix())
	case len(s.steer) > 0:
		ways = append(ways, "set "+s.steer[0])
	}
	if len(s.env) > 0 {
		ways = append(ways, "set "+s.env[0])
	}
	l.errorf(d.at, "%s needs %s: %s (%s)", d, s.key, list(ways, "or"), s.doc)
}

// together checks what the parameters of one seal say about one another.
func (l *loader) together(d draft) {
	p := d.params
	switch d.typ {
	case "awskms":
		l.pair(d, "access_key", "secret_key")
		if token, ok := p["session_token"]; ok && p["access_key"].text == "" && p["secret_key"].text == "" {
			l.errorf(token.at, "%s goes with access_key and secret_key of the same credentials: write all three, or none", token.name)
		}
		region, in := p["region"], arnRegion(p["kms_key_id"].text)
		switch {
		case region.text == in || region.text == "" || in == "":
		case region.name != "region":
			// The environment's region is only a default: two seals in two regions are an everyday case.
			delete(p, "region")
		default:
			l.errorf(region.at, "%s is %s, but the key's ARN (%s) is in %s: remove the region or correct it", region.name, region.text, p["kms_key_id"].origin(), in)
		}
	case "transit", "vaultkv":
		l.pair(d, "tls_client_cert", "tls_client_key")
	case "static":
		l.pair(d, "previous_key", "previous_key_id")
		previous, ok := p["previous_key"]
		if !ok {
			return
		}
		one, _ := DecodeKey(p["current_key"].text) // both were checked
		two, _ := DecodeKey(previous.text)
		if bytes.Equal(one, two) {
			l.errorf(previous.at, "%s is the same key as current_key: remove it, or write the key before", previous.name)
		}
		if id := p["previous_key_id"]; id.text == p["current_key_id"].text {
			l.errorf(id.at, "%s is %q like current_key_id, but the keys are different ones: give each key its own ID", id.name, id.text)
		}
	}
}

// pair requires both keys or none.
func (l *loader) pair(d draft, a, b string) {
	va, hasA := d.params[a]
	vb, hasB := d.params[b]
	switch {
	case hasA && !hasB:
		l.errorf(va.at, "%s is there and %s is missing: write both, or none", va.name, b)
	case hasB && !hasA:
		l.errorf(vb.at, "%s is there and %s is missing: write both, or none", vb.name, a)
	}
}

// refuseSelf refuses a transit or vaultkv seal that points at this very keep, since it could never open it.
func (l *loader) refuseSelf(drafts []draft, listeners []Listener, api value) {
	for _, d := range drafts {
		v := d.params["address"]
		if v.text == "" {
			continue
		}
		what := ""
		dialed := endpointOf(v.text)
		for _, n := range listeners {
			if n.Address != "" && endpointOf(n.Address).same(dialed) {
				what = "listener at " + n.At
			}
		}
		if api.text != "" && endpointOf(api.text).same(dialed) {
			what = "api_addr at " + api.at.String()
		}
		if what != "" {
			l.errorf(v.at, "%s is %s, which is this keep's own %s: a keep cannot open itself with its own engines, write the address of another server", v.name, v.text, what)
		}
	}
}
