package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
)

// The API describes itself as an OpenAPI document, which is made of the types'
// tables when it is asked for: what the routes are is what is served. That costs some
// 10 ms, of which a mount of KV takes one, and 20 KB of the answer.

// document is an OpenAPI document, as far as it is needed.
type document struct {
	OpenAPI    string               `json:"openapi"`
	Info       map[string]string    `json:"info"`
	Servers    []map[string]string  `json:"servers"`
	Paths      map[string]*pathItem `json:"paths"`
	Components components           `json:"components"`

	ids map[string]bool // of operations
}

type components struct {
	Schemas map[string]*schema `json:"schemas"`
}

type pathItem struct {
	Description     string      `json:"description,omitempty"`
	Parameters      []parameter `json:"parameters,omitempty"`
	Sudo            bool        `json:"x-vault-sudo,omitempty"` // some operation takes it
	Unauthenticated bool        `json:"x-vault-unauthenticated,omitempty"`
	CreateSupported bool        `json:"x-vault-createSupported,omitempty"`

	Get    *operationDoc `json:"get,omitempty"`
	Head   *operationDoc `json:"head,omitempty"`
	Post   *operationDoc `json:"post,omitempty"`
	Patch  *operationDoc `json:"patch,omitempty"`
	Delete *operationDoc `json:"delete,omitempty"`
}

type operationDoc struct {
	Summary    string              `json:"summary,omitempty"`
	ID         string              `json:"operationId"`
	Tags       []string            `json:"tags"`
	Parameters []parameter         `json:"parameters,omitempty"`
	Body       *content            `json:"requestBody,omitempty"`
	Responses  map[string]*content `json:"responses"`
}

type parameter struct {
	Name        string  `json:"name"`
	Description string  `json:"description,omitempty"`
	In          string  `json:"in"`
	Required    bool    `json:"required,omitempty"`
	Schema      *schema `json:"schema"`
}

// content is a body: that of a request, or of an answer.
type content struct {
	Description string               `json:"description,omitempty"`
	Content     map[string]mediaType `json:"content,omitempty"`
}

type mediaType struct {
	Schema *schema `json:"schema"`
}

type schema struct {
	Ref         string             `json:"$ref,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"`
	Format      string             `json:"format,omitempty"`
	Nullable    bool               `json:"nullable,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Default     string             `json:"default,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Others      *schema            `json:"additionalProperties,omitempty"`
	AllOf       []*schema          `json:"allOf,omitempty"`
}

func (s *Server) newDocument() *document {
	object, texts := &schema{Type: "object", Nullable: true}, &schema{Type: "array", Nullable: true, Items: &schema{Type: "string"}}
	text, number := &schema{Type: "string"}, &schema{Type: "integer"}
	return &document{
		OpenAPI: "3.0.2",
		Info: map[string]string{
			"title":       "sealkeep API",
			"description": "The Vault HTTP API, as far as sealkeep has it. All paths are below /v1/.",
			"version":     cmp.Or(s.version, "unknown"),
		},
		Servers: []map[string]string{{"url": "/v1"}},
		Paths:   make(map[string]*pathItem),
		Components: components{map[string]*schema{
			"Answer": {Type: "object", Description: "Vault's envelope.", Properties: map[string]*schema{
				"request_id": text, "lease_id": text, "renewable": {Type: "boolean"}, "lease_duration": number, "data": object,
				"wrap_info": answered(api.FieldsOf(api.Wrap{})), "warnings": texts, "mount_type": text,
				"auth": answered(api.FieldsOf(api.Auth{})),
			}},
			"Errors": {Type: "object", Properties: map[string]*schema{"errors": {Type: "array", Items: text}}},
		}},
		ids: make(map[string]bool),
	}
}

// A site is where the routes of a type are.
type site struct {
	prefix string    // of the paths, with the slash at its end
	name   string    // before the names of the operations
	param  parameter // for the mount's path, if it has a name
	tag    string
}

// tagOf is what the operations of a type are grouped by.
func tagOf(t *api.Type) string {
	switch {
	case t.At == "sys/":
		return "system"
	case t.Kind == api.Login, strings.HasPrefix(t.At, "auth/"):
		return "auth"
	case t.Name == "identity":
		return "identity"
	}
	return "secrets"
}

// add describes a route.
func (d *document) add(at site, r *api.Route) {
	path := "/" + at.prefix + strings.ReplaceAll(r.Path, "...}", "}")
	if r.Path == "" && at.prefix != "" {
		path = strings.TrimSuffix(path, "/")
	}
	item := &pathItem{
		Description: r.Help, Sudo: len(r.Sudo) > 0, Unauthenticated: r.Gate != api.Authenticated, CreateSupported: r.Exists != nil,
	}
	if at.param.Name != "" {
		item.Parameters = append(item.Parameters, at.param)
	}
	inPath := pathNames(r.Path)
	for _, name := range inPath {
		item.Parameters = append(item.Parameters, parameter{Name: name, In: "path", Required: true, Schema: &schema{Type: "string"}})
	}
	if verb := getVerb(r); verb != "" {
		item.Get = d.operation(at, r, verb, []api.Op{api.Read, api.List, api.Scan}, "200")
		item.Get.Parameters = append(query(inPath, r, api.Read, api.List, api.Scan), folderParams(r)...)
	}
	if has(r, api.Head) {
		item.Head = d.operation(at, r, "head", nil, "200")
		item.Head.Parameters = query(inPath, r, api.Head)
	}
	if has(r, api.Write) {
		item.Post = d.operation(at, r, "write", []api.Op{api.Write}, "200", "204")
		item.Post.Body = body(inPath, r, api.Write, "application/json")
	}
	if has(r, api.Patch) {
		item.Patch = d.operation(at, r, "patch", []api.Op{api.Patch}, "200", "204")
		item.Patch.Body = body(inPath, r, api.Patch, "application/merge-patch+json")
	}
	if has(r, api.Delete) {
		item.Delete = d.operation(at, r, "delete", []api.Op{api.Delete}, "200", "204")
		item.Delete.Parameters = query(inPath, r, api.Delete)
	}
	d.Paths[path] = item
}

// operation describes what answers as the handlers of some operations do.
func (d *document) operation(at site, r *api.Route, verb string, ops []api.Op, statuses ...string) *operationDoc {
	o := &operationDoc{Summary: r.Help, ID: d.id(at.name, verb, r.Path), Tags: []string{at.tag}, Responses: map[string]*content{
		"default": jsonContent("error", &schema{Ref: "#/components/schemas/Errors"}),
	}}
	for _, status := range statuses {
		o.Responses[status] = &content{Description: "nothing to say"}
		if status == "200" {
			o.Responses[status] = jsonContent("OK", answer(r, ops))
		}
	}
	return o
}

func has(r *api.Route, op api.Op) bool {
	_, is := r.Ops[op]
	return is
}

// getVerb says what a GET of a route does, "" when it has none: OpenAPI has one
// operation for those that differ in the query alone.
func getVerb(r *api.Route) string {
	for _, op := range []api.Op{api.Read, api.List, api.Scan} {
		if has(r, op) {
			return op.String()
		}
	}
	return ""
}

// folderParams are the parameters that make a GET a list or a scan.
func folderParams(r *api.Route) (params []parameter) {
	for _, op := range []api.Op{api.List, api.Scan} {
		if !has(r, op) {
			continue
		}
		p := parameter{Name: op.String(), In: "query", Schema: &schema{Type: "string", Enum: []string{"true"}}}
		switch {
		case has(r, api.Read):
			p.Description = "The names in the folder are asked for."
		case has(r, api.List) && has(r, api.Scan):
			p.Description = "One of list and scan must be true."
		default:
			p.Description, p.Required = "Must be true.", true
		}
		params = append(params, p)
	}
	return params
}

// pathNames are the names in braces.
func pathNames(path string) (names []string) {
	for part := range strings.SplitSeq(path, "{") {
		if name, _, ok := strings.Cut(part, "}"); ok {
			names = append(names, strings.TrimSuffix(name, "..."))
		}
	}
	return names
}

// id is the name of an operation, in words with hyphens. No other has it: where two
// are spelled the same, the later has a number.
func (d *document) id(site, verb, path string) string {
	var words []string
	for _, text := range []string{site, verb, path} {
		words = append(words, wordsOf(text)...)
	}
	id := strings.Join(words, "-")
	for n, base := 2, id; d.ids[id]; n++ {
		id = base + "-" + strconv.Itoa(n)
	}
	d.ids[id] = true
	return id
}

// wordsOf are the runs of letters and digits of ASCII in a text, in lower case.
func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') })
}

// query are the parameters that some operations take from the query.
func query(inPath []string, r *api.Route, ops ...api.Op) (params []parameter) {
	for _, op := range ops {
		if !has(r, op) {
			continue
		}
		for _, f := range r.Ops[op].Fields() {
			known := func(p parameter) bool { return p.Name == f.Name }
			if !slices.Contains(inPath, f.Name) && !slices.ContainsFunc(params, known) {
				params = append(params, parameter{Name: f.Name, In: "query", Schema: schemaOf(f)})
			}
		}
	}
	return params
}

// body is that of an operation, nil when it takes none.
func body(inPath []string, r *api.Route, op api.Op, kind string) *content {
	if r.Free {
		return &content{Content: map[string]mediaType{kind: {&schema{Type: "object"}}}}
	}
	fields := slices.DeleteFunc(r.Ops[op].Fields(), func(f api.Field) bool { return slices.Contains(inPath, f.Name) })
	if len(fields) == 0 {
		return nil
	}
	return &content{Content: map[string]mediaType{kind: {schemaOf(api.Field{Kind: api.ObjectField, Fields: fields})}}}
}

// answer is the envelope, with what the handlers of some operations put into it where
// that is fixed for all of them, or what they answer in its place.
func answer(r *api.Route, ops []api.Op) *schema {
	envelope, data, raw := &schema{Ref: "#/components/schemas/Answer"}, (*schema)(nil), false
	for _, op := range ops {
		if !has(r, op) {
			continue
		}
		fields := r.Out(op)
		if fields == nil {
			return envelope
		}
		one := answered(fields)
		if raw = r.Ops[op].Raw(); data == nil {
			data = one
			continue
		}
		maps.Copy(data.Properties, one.Properties)
	}
	switch {
	case raw:
		data.Nullable = false
		return data
	case data == nil || len(data.Properties) == 0 && data.Others == nil:
		return envelope
	}
	return &schema{AllOf: []*schema{envelope, {Type: "object", Properties: map[string]*schema{"data": data}}}}
}

// answered is an object of an answer, in which null stands for an empty list or object.
func answered(fields []api.Field) *schema {
	s := &schema{Type: "object", Nullable: true, Properties: make(map[string]*schema)}
	for _, f := range fields {
		one := schemaOf(f)
		switch f.Kind {
		case api.ObjectField:
			one = answered(f.Fields)
		case api.ObjectsField:
			one.Items, one.Nullable = answered(f.Fields), true
		case api.TextsField, api.NumbersField, api.AnyField:
			one.Nullable = true
		}
		if f.Name == api.Each {
			s.Others = one
			continue
		}
		s.Properties[f.Name] = one
	}
	return s
}

func jsonContent(description string, s *schema) *content {
	return &content{Description: description, Content: map[string]mediaType{"application/json": {s}}}
}

// schemaOf says what a field takes; that it takes weaker forms, too, is not said.
func schemaOf(f api.Field) *schema {
	switch f.Kind {
	case api.AnyField:
		return &schema{}
	case api.DurationField:
		return &schema{Type: "string", Format: "duration", Description: `a number of seconds, or a text like "1h30m"`}
	case api.ObjectsField:
		return &schema{Type: "array", Items: &schema{Type: "object"}}
	case api.TextsField:
		return &schema{Type: "array", Items: &schema{Type: "string"}}
	case api.NumbersField:
		return &schema{Type: "array", Items: &schema{Type: "integer"}}
	}
	s := &schema{Type: string(f.Kind)}
	for _, inner := range f.Fields {
		if s.Properties == nil {
			s.Properties = make(map[string]*schema)
		}
		s.Properties[inner.Name] = schemaOf(inner)
	}
	return s
}

// openAPIRoutes describe the API, below sys/.
func (s *Server) openAPIRoutes() []api.Route {
	describe := api.Do(s.describe).AnswersRaw(map[string]any{api.Each: nil}) // what OpenAPI says
	return []api.Route{{Path: "internal/specs/openapi", Help: "The API of the mounts that the token may see, as an OpenAPI document.", Gate: api.Unsealed,
		Ops: map[api.Op]api.Handler{api.Read: describe, api.Write: describe}}}
}

type openAPIInput struct {
	GenericMountPaths bool `json:"generic_mount_paths"` // mounts are at paths like {secret_mount_path}
}

// describe answers with what the token may see, as Vault decides it: whole mounts,
// those of which its policies allow some path, and those that everybody may see.
func (s *Server) describe(r *api.Request, in *openAPIInput) (api.Answer, error) {
	u, d := keep.Of(r), s.newDocument()
	braces := strings.NewReplacer("{", "%7B", "}", "%7D")
	add := func(at string, t *api.Type, m *api.Mount) {
		if m.Config.ListingVisibility != "unauth" && (t.At != "auth/token/" || r.Caller.Token == nil) && !r.Caller.ACL.Within(at) {
			return
		}
		p := site{prefix: braces.Replace(at), name: at, tag: tagOf(t)}
		if in.GenericMountPaths && t.Kind != api.System {
			mount := strings.TrimSuffix(m.Path, "/")
			p.param = parameter{
				Name: strings.Join(wordsOf(mount), "_") + "_mount_path", Description: "where the type is mounted",
				In: "path", Required: true, Schema: &schema{Type: "string", Default: mount},
			}
			p.prefix = strings.TrimSuffix(at, m.Path) + "{" + p.param.Name + "}/"
		}
		for i := range t.Routes {
			d.add(p, &t.Routes[i])
		}
	}
	for _, t := range s.tables.fixed {
		add(t.At, t, u.Fixed(t.At))
	}
	for _, set := range []struct {
		prefix string
		kind   api.Kind
		mounts []*api.Mount
	}{{"", api.Secrets, u.Engines.Load().All()}, {"auth/", api.Login, u.Logins.Load().All()}} {
		for _, m := range set.mounts {
			if t := s.types.Of(set.kind, m); t != nil {
				add(set.prefix+m.Path, t, m)
			}
		}
	}
	return rawJSON(d)
}

// rawJSON answers with JSON without an envelope that is not in the audit log: it is
// long, and tells no secret.
func rawJSON(v any) (api.Answer, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Raw: &api.Raw{Stream: io.NopCloser(bytes.NewReader(b)), Length: int64(len(b))}}, nil
}
