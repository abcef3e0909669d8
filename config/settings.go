package config

import (
	"maps"
	"strconv"
	"strings"
)

// A Setting is one setting in force: what a file or a variable says, or a default. It is safe to show.
type Setting struct {
	Scope  string `json:"scope"`  // "top level", or the block: `seal "awskms" named backup`
	Key    string `json:"key"`    // as in a file; a seal's label is its type
	Value  string `json:"value"`  // [Hidden] if it is a secret
	Origin string `json:"origin"` // as in [Param]
	Secret bool   `json:"secret"`
}

// A Variable is an environment variable that affects one setting of a configuration. It is safe to show.
type Variable struct {
	Name   string `json:"name"`
	Scope  string `json:"scope"` // as in [Setting]
	Key    string `json:"key"`
	Wins   bool   `json:"wins"` // over the file; otherwise the file wins
	SDK    bool   `json:"sdk"`  // read by the AWS SDK inside the seal
	Set    bool   `json:"set"`  // and not empty
	Value  string `json:"value,omitempty"`
	Secret bool   `json:"secret"`
}

// Hidden replaces a secret, whatever its length.
const Hidden = "(hidden)"

func shown(text string, secret bool) string {
	if secret {
		return Hidden
	}
	return text
}

// inForce records the values of a block, in the table's order.
func (l *loader) inForce(where string, values map[string]value, in ...scope) {
	for _, s := range rows(in...) {
		if v := values[s.key]; v.text != "" {
			l.settings = append(l.settings, Setting{where, s.key, shown(v.text, s.secret), v.origin(), s.secret})
		}
	}
}

// sealInForce records the settings of a seal. They include what the AWS SDK takes from the environment, unless the block
// has credentials or a profile of its own, which the SDK would use first.
func (l *loader) sealInForce(d draft) {
	where := d.String()
	l.settings = append(l.settings, Setting{where, sealType.key, d.typ, d.from.origin(), false})
	own := maps.Clone(d.own)
	if own["name"].text == "" {
		own["name"] = value{text: d.name, def: true}
	}
	if own["priority"].text == "" {
		own["priority"] = value{text: strconv.Itoa(d.priority), def: true}
	}
	l.inForce(where, own, scopeSeal)

	params := maps.Clone(d.params)
	if key := params["kms_key_id"]; params["region"].text == "" {
		params["region"] = value{text: arnRegion(key.text), at: key.at, name: key.name, via: "the key's ARN"}
	}
	login := params["access_key"].text + params["shared_creds_filename"].text + params["shared_creds_profile"].text
	for _, s := range rows(d.scope()) {
		if !s.chain || login != "" || params[s.key].text != "" {
			continue
		}
		for _, v := range l.all(s.env, "") {
			v.via = "read by the AWS SDK"
			params[s.key] = v
		}
	}
	l.inForce(where, params, d.scope())
}

// Variables lists the environment variables that affect the configuration, with their state in env. A variable that can
// steer several seals is listed once for each, with the name of the seal at its end.
func (c *Config) Variables(env func(string) (string, bool)) []Variable {
	l := &loader{env: env}
	var out []Variable
	add := func(where, name, suffix string, v Variable) {
		text, set := l.lookup(name + suffix)
		v.Name, v.Scope, v.Set = name+suffix, where, set
		v.Secret = v.Secret && !strings.HasSuffix(name, fileSuffix)
		if set {
			v.Value = shown(text, v.Secret)
		}
		out = append(out, v)
	}
	add(string(scopeStorage), stateDirectory, "", Variable{Key: "path"})
	enabled := 0
	for _, s := range c.Seals {
		if !s.Disabled {
			enabled++
		}
	}
	for _, s := range c.Seals {
		d := draft{typ: s.Type, name: s.Name, bare: enabled == 1 && !s.Disabled}
		for _, row := range append([]setting{sealType}, rows(d.scope())...) {
			for _, name := range row.steer {
				v := Variable{Key: row.key, Wins: true, Secret: row.secret}
				if d.bare {
					add(d.String(), name, "", v)
				}
				if _, set := l.lookup(name + d.suffix()); set || !d.bare {
					add(d.String(), name, d.suffix(), v)
				}
			}
			for _, name := range row.env {
				add(d.String(), name, "", Variable{Key: row.key, SDK: row.chain, Secret: row.secret})
			}
		}
	}
	return out
}
