package server_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
)

// everyType enables every login method at the path of its name, and mounts every
// engine at that of its name and version.
func (f *fixture) everyType(t testing.TB) {
	t.Helper()
	for _, typ := range f.Types() {
		switch typ.Kind {
		case api.Login:
			f.Must(t, 204, "POST", "sys/auth/"+typ.Name, `{"type":"`+typ.Name+`"}`)
		case api.Secrets:
			options := ""
			if typ.Version != "" {
				options = `,"options":{"version":"` + typ.Version + `"}`
			}
			f.Must(t, 204, "POST", "sys/mounts/"+typ.Name+typ.Version, `{"type":"`+typ.Name+`"`+options+`}`)
		}
	}
}

// specified are the operations of a document by what they are asked for: "get /sys/mounts".
func specified(t testing.TB, r servertest.Reply) map[string]*openapi3.Operation {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(r.Text))
	if err != nil {
		t.Fatal(err)
	}
	ops := map[string]*openapi3.Operation{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			ops[method+" "+path] = op
		}
	}
	return ops
}

// mountedAt is where everyType has a type.
func mountedAt(typ *api.Type) string {
	switch typ.Kind {
	case api.Secrets:
		return typ.Name + typ.Version + "/"
	case api.Login:
		return "auth/" + typ.Name + "/"
	}
	return typ.At
}

// The document is what OpenAPI says that it is, and has every operation of every route.
func TestOpenAPI(t *testing.T) {
	f := fresh(t)
	f.everyType(t)
	r := f.Must(t, 200, "GET", "sys/internal/specs/openapi", "")
	doc, err := openapi3.NewLoader().LoadFromData([]byte(r.Text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	if doc.OpenAPI != "3.0.2" || doc.Info.Version != "1.2.3" {
		t.Errorf("OpenAPI %s of version %s", doc.OpenAPI, doc.Info.Version)
	}
	ops, ids := specified(t, r), map[string]string{}
	for what, op := range ops {
		if other := ids[op.OperationID]; other != "" || op.OperationID == "" {
			t.Errorf("%s and %s have the ID %q", what, other, op.OperationID)
		}
		ids[op.OperationID] = what
	}
	methods := [api.Ops]string{api.Read: "GET", api.List: "GET", api.Scan: "GET", api.Write: "POST", api.Patch: "PATCH", api.Delete: "DELETE", api.Head: "HEAD"}
	for _, typ := range f.Types() {
		at := mountedAt(typ)
		for _, rt := range typ.Routes {
			for op, h := range rt.Ops {
				if methods[op] == "" { // which OpenAPI does not have
					continue
				}
				what := methods[op] + " /" + strings.TrimSuffix(at+strings.ReplaceAll(rt.Path, "...}", "}"), "/")
				got := ops[what]
				if got == nil {
					t.Errorf("%s is not in it", what)
					continue
				}
				delete(ids, got.OperationID)
				item := doc.Paths.Value(strings.Fields(what)[1])
				if sudo := item.Extensions["x-vault-sudo"] == true; sudo != (len(rt.Sudo) > 0) {
					t.Errorf("%s: takes sudo: %v", what, sudo)
				}
				if open := item.Extensions["x-vault-unauthenticated"] == true; open != (rt.Gate != api.Authenticated) {
					t.Errorf("%s: takes no token: %v", what, open)
				}
				var names []string
				for _, p := range append(slices.Clone(item.Parameters), got.Parameters...) {
					names = append(names, p.Value.Name)
				}
				if got.RequestBody != nil {
					for _, kind := range got.RequestBody.Value.Content {
						names = append(names, slices.Collect(maps.Keys(kind.Schema.Value.Properties))...)
					}
				}
				for _, name := range h.Names() {
					if !slices.Contains(names, name) {
						t.Errorf("%s has no parameter %s: %v", what, name, names)
					}
				}
			}
		}
	}
	for id, what := range ids {
		if !strings.Contains(what, " /secret/") && !strings.Contains(what, " /state/") { // where an engine is at first, too
			t.Errorf("%s, %s, is of no route", id, what)
		}
	}
	once := len(ops) - len(ids) // without what is there a second time
	t.Logf("%d operations, %d bytes", once, len(r.Text))
	if once <= 200 {
		t.Error("that is not more than 200")
	}

	if again := f.Must(t, 200, "POST", "sys/internal/specs/openapi", `{"context":"x"}`); again.Text != r.Text {
		t.Error("asked again by POST, the document is another")
	}
}

// What a handler reads is in the document with its kind.
func TestOpenAPIOfOneOperation(t *testing.T) {
	f := fresh(t)
	f.everyType(t)
	r := f.Must(t, 200, "GET", "sys/internal/specs/openapi", "")
	ops := specified(t, r)
	role := ops["POST /auth/approle/role/{name}"]
	if role.OperationID != "auth-approle-write-role-name" || !slices.Equal(role.Tags, []string{"auth"}) {
		t.Errorf("%s %v", role.OperationID, role.Tags)
	}
	fields := role.RequestBody.Value.Content["application/json"].Schema.Value.Properties
	for name, want := range map[string]string{"bind_secret_id": "boolean", "token_policies": "array", "secret_id_num_uses": "integer", "token_ttl": "string", "role_id": "string"} {
		if got := fields[name]; got == nil || !got.Value.Type.Is(want) {
			t.Errorf("%s is %v, want %s", name, got, want)
		}
	}
	data := ops["POST /secret/data/{path}"].RequestBody.Value.Content["application/json"].Schema.Value.Properties
	if cas := data["options"].Value.Properties["cas"]; !data["data"].Value.Type.Is("object") || cas == nil || !cas.Value.Type.Is("integer") {
		t.Errorf("a write of data has the fields %v", data)
	}
	if kind := ops["PATCH /secret/data/{path}"].RequestBody.Value.Content; kind["application/merge-patch+json"] == nil {
		t.Errorf("a patch has the kinds %v", kind)
	}
	version := ops["GET /secret/data/{path}"].Parameters
	if len(version) != 1 || version[0].Value.Name != "version" || version[0].Value.In != "query" || !version[0].Value.Schema.Value.Type.Is("integer") {
		t.Errorf("a read of data has the parameters %v", version)
	}
	if list := ops["GET /auth/approle/role"].Parameters; len(list) != 1 || list[0].Value.Name != "list" || !list[0].Value.Required {
		t.Errorf("a list has the parameters %v", list)
	}
}

// The document has the mounts that a token may see, and with generic paths a
// parameter for where they are.
func TestOpenAPIOfToken(t *testing.T) {
	f := fresh(t)
	f.everyType(t)
	f.Must(t, 204, "POST", "sys/mounts/team/my-kv", `{"type":"kv-v2"}`)
	f.Policy(t, "one", map[string]string{"team/my-kv/data/x": `"read"`, "auth/jwt/role/*": `"read"`})
	mounts := func(ops map[string]*openapi3.Operation) (all []string) {
		for what := range ops {
			for _, at := range []string{"secret/", "team/my-kv/", "{team_my_kv_mount_path}/", "cubbyhole/", "sys/", "auth/token/", "auth/jwt/", "auth/{jwt_mount_path}/", "auth/approle/"} {
				if strings.Contains(what, " /"+at) && !slices.Contains(all, at) {
					all = append(all, at)
				}
			}
		}
		slices.Sort(all)
		return all
	}
	const path = "sys/internal/specs/openapi"
	f.Must(t, 204, "POST", "sys/mounts/team-my/kv", `{"type":"kv-v2"}`) // whose operations would have the same IDs
	ids := map[string]bool{}
	for what, op := range specified(t, f.Must(t, 200, "GET", path, "")) {
		if ids[op.OperationID] {
			t.Errorf("%s has the ID %s, as another has", what, op.OperationID)
		}
		ids[op.OperationID] = true
	}
	one := "X-Vault-Token: " + f.Bearer(t, "one")
	if got, want := mounts(specified(t, f.Must(t, 200, "GET", path, "", one))), []string{"auth/jwt/", "auth/token/", "team/my-kv/"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	generic := f.Must(t, 200, "GET", path+"?generic_mount_paths=true", "", one)
	ops := specified(t, generic)
	if got, want := mounts(ops), []string{"auth/token/", "auth/{jwt_mount_path}/", "{team_my_kv_mount_path}/"}; !slices.Equal(got, want) {
		t.Errorf("generic: %v, want %v", got, want)
	}
	params, _ := generic.Get("paths", "/{team_my_kv_mount_path}/data/{path}", "parameters").([]any)
	if len(params) != 2 || params[0].(map[string]any)["schema"].(map[string]any)["default"] != "team/my-kv" {
		t.Errorf("the parameters are %v", params)
	}
	if got := specified(t, f.Must(t, 200, "GET", path, "", "X-Vault-Token: ")); len(got) != 0 {
		t.Errorf("a stranger sees %v", got)
	}
	f.Must(t, 204, "POST", "sys/mounts/team/my-kv/tune", `{"listing_visibility":"unauth"}`)
	if got := mounts(specified(t, f.Must(t, 200, "GET", path, "", "X-Vault-Token: "))); !slices.Equal(got, []string{"team/my-kv/"}) {
		t.Errorf("a stranger sees %v", got)
	}
	f.Must(t, 204, "PUT", "sys/seal", "")
	f.Must(t, 503, "GET", path, "")
}

// What a type says of its answers is what it answers: every field, and no other.
func TestOpenAPIAnswers(t *testing.T) {
	d, _ := servertest.AuditFile(t)
	f := freshAudited(t, []audit.Device{d})
	f.everyType(t)
	ops := specified(t, f.Must(t, 200, "GET", "sys/internal/specs/openapi", ""))
	i, ca := servertest.NewIssuer(t), servertest.NewHolder(t, nil, "an authority", time.Hour)
	role := `{"bound_audiences":"keep","user_claim":"sub","token_policies":"a","role_type":"jwt"}`
	checked := map[string]bool{}
	routes := f.operations()
	wrapped := f.Must(t, 200, "POST", "sys/wrapping/wrap", `{"a":1}`, "X-Vault-Wrap-TTL: 60").Get("wrap_info", "token").(string)
	known := map[string]string{"wrapped": wrapped} // of the answers before, for paths and bodies
	f.SetRecovery(nil, true)
	for _, c := range []struct{ op, path, body, without string }{
		{"POST /secret/data/{path}", "secret/data/a", `{"data":{"a":1}}`, ""},
		{"PATCH /secret/data/{path}", "secret/data/a", `{"data":{"b":1}}`, ""},
		{"", "secret/metadata/a", `{"custom_metadata":{"a":"b"}}`, ""},
		{"GET /secret/data/{path}", "secret/data/a", "", ""},
		{"GET /secret/metadata/{path}", "secret/metadata/a", "", ""},
		{"GET /secret/metadata", "secret/metadata?list=true", "", ""},
		{"GET /secret/detailed-metadata/{path}", "secret/detailed-metadata/?list=true", "", ""},
		{"GET /secret/detailed-metadata", "secret/detailed-metadata?list=true", "", ""},
		{"GET /secret/subkeys/{path}", "secret/subkeys/a", "", ""},
		{"GET /secret/config", "secret/config", "", ""},
		{"", "auth/approle/role/r", `{"token_policies":"a"}`, ""},
		{"GET /auth/approle/role", "auth/approle/role?list=true", "", ""},
		{"GET /auth/approle/role/{name}", "auth/approle/role/r", "", ""},
		{"GET /auth/approle/role/{name}/role-id", "auth/approle/role/r/role-id", "", ""},
		{"GET /auth/approle/role/{name}/policies", "auth/approle/role/r/policies", "", ""},
		{"POST /auth/approle/role/{name}/custom-secret-id", "auth/approle/role/r/custom-secret-id", `{"secret_id":"chosen-by-the-caller"}`, ""},
		{"POST /auth/approle/role/{name}/secret-id", "auth/approle/role/r/secret-id", `{}`, ""},
		{"GET /auth/approle/role/{name}/secret-id", "auth/approle/role/r/secret-id?list=true", "", ""},
		{"POST /auth/approle/role/{name}/secret-id/lookup", "auth/approle/role/r/secret-id/lookup", `{"secret_id":"chosen-by-the-caller"}`, ""},
		{"", "auth/userpass/users/u", `{"password":"of a person"}`, ""},
		{"GET /auth/userpass/users/{name}", "auth/userpass/users/u", "", ""},
		{"POST /auth/userpass/login/{name}", "auth/userpass/login/u", `{"password":"of a person"}`, ""},
		{"", "auth/jwt/config", servertest.JSONText(map[string]any{"jwt_validation_pubkeys": i.Public}), ""},
		{"GET /auth/jwt/config", "auth/jwt/config", "", ""},
		{"", "auth/jwt/role/r", role, ""},
		{"GET /auth/jwt/role/{name}", "auth/jwt/role/r", "", ""},
		{"GET /auth/cert/config", "auth/cert/config", "", ""},
		{"", "auth/cert/certs/r", servertest.JSONText(map[string]any{"certificate": ca.PEM()}), ""},
		{"GET /auth/cert/certs/{name}", "auth/cert/certs/r", "", ""},
		{"", "auth/peer/role/r", `{"bound_uids":"1000","token_policies":"a"}`, ""},
		{"GET /auth/peer/role/{name}", "auth/peer/role/r", "", ""},
		{"", "auth/token/roles/r", `{"allowed_policies":"a"}`, ""},
		{"GET /auth/token/roles", "auth/token/roles", "", ""},
		{"GET /auth/token/roles/{name}", "auth/token/roles/r", "", ""},
		{"GET /auth/token/lookup-self", "auth/token/lookup-self", "", "bound_cidrs last_renewal last_renewal_time period role"},
		{"POST /auth/token/lookup-self", "auth/token/lookup-self", "", "bound_cidrs last_renewal last_renewal_time period role"},
		{"GET /auth/token/lookup", "auth/token/lookup", "", "bound_cidrs last_renewal last_renewal_time period role"},
		{"", "auth/token/roles/r", `{"allowed_policies":"a","token_period":"1h","token_bound_cidrs":"0.0.0.0/0"}`, ""},
		{"", "auth/token/create/r", `{"policies":"a"}`, ""},
		{"", "auth/token/renew-accessor", `{"accessor":"$accessor"}`, ""},
		{"POST /auth/token/lookup-accessor", "auth/token/lookup-accessor", `{"accessor":"$accessor"}`, ""},
		{"POST /auth/token/lookup", "auth/token/lookup", `{}`, "bound_cidrs last_renewal last_renewal_time period role"},
		{"", "transit/encrypt/k", `{"plaintext":"YQ=="}`, ""},
		{"GET /transit/keys/{name}/uses", "transit/keys/k/uses", "", ""},
		{"GET /sys/mounts", "sys/mounts", "", ""},
		{"", "sys/mounts/team", `{"type":"kv-v2","config":{"listing_visibility":"unauth","allowed_response_headers":"a","passthrough_request_headers":"a","audit_non_hmac_request_keys":"a","audit_non_hmac_response_keys":"a"}}`, ""},
		{"GET /sys/mounts/{path}", "sys/mounts/team", "", ""},
		{"GET /sys/mounts/{path}/tune", "sys/mounts/team/tune", "", ""},
		{"GET /sys/internal/ui/mounts", "sys/internal/ui/mounts", "", ""},
		{"GET /sys/internal/ui/mounts/{path}", "sys/internal/ui/mounts/team/data/a", "", ""},
		{"POST /sys/remount", "sys/remount", `{"from":"team","to":"teams"}`, ""},
		{"GET /sys/remount/status/{id}", "sys/remount/status/$migration_id", "", ""},
		{"GET /sys/auth", "sys/auth", "", ""},
		{"", "sys/auth/userpass/tune", `{"listing_visibility":"unauth","allowed_response_headers":"a","passthrough_request_headers":"a","audit_non_hmac_request_keys":"a","audit_non_hmac_response_keys":"a"}`, ""},
		{"GET /sys/auth/{path}", "sys/auth/userpass", "", ""},
		{"GET /sys/auth/{path}/tune", "sys/auth/userpass/tune", "", ""},
		{"GET /sys/mounts/auth/{path}/tune", "sys/mounts/auth/userpass/tune", "", ""},
		{"", "sys/policies/acl/a", `{"policy":"path \"sys/health\" { capabilities = [\"read\"] }"}`, ""},
		{"GET /sys/policies/acl", "sys/policies/acl", "", ""},
		{"GET /sys/policies/acl/{name}", "sys/policies/acl/a", "", ""},
		{"GET /sys/policy", "sys/policy", "", ""},
		{"GET /sys/policy/{name}", "sys/policy/a", "", ""},
		{"", "auth/token/create", `{"policies":"a"}`, ""},
		{"POST /sys/capabilities", "sys/capabilities", `{"token":"$token","paths":["sys/health"]}`, ""},
		{"POST /sys/capabilities-accessor", "sys/capabilities-accessor", `{"accessor":"$accessor","paths":["sys/health"]}`, ""},
		{"POST /sys/capabilities-self", "sys/capabilities-self", `{"paths":["sys/health","sys/seal"]}`, "capabilities"},
		{"POST /sys/wrapping/lookup", "sys/wrapping/lookup", `{"token":"$wrapped"}`, ""},
		{"GET /sys/internal/ui/resultant-acl", "sys/internal/ui/resultant-acl", "", "exact_paths glob_paths"},
		{"GET /sys/internal/specs/openapi", "sys/internal/specs/openapi", "", ""},
		{"POST /sys/internal/specs/openapi", "sys/internal/specs/openapi", "", ""},
		{"GET /sys/in-flight-req", "sys/in-flight-req", "", ""},
		{"GET /sys/audit", "sys/audit", "", ""},
		{"POST /sys/audit-hash/{path}", "sys/audit-hash/file", `{"input":"a"}`, ""},
		{"GET /sys/health", "sys/health", "", ""},
		{"GET /sys/leader", "sys/leader", "", ""},
		{"GET /sys/init", "sys/init", "", ""},
		{"GET /sys/seal-status", "sys/seal-status", "", ""},
		{"POST /sys/unseal", "sys/unseal", "{}", ""},
		{"GET /sys/seal-backend-status", "sys/seal-backend-status", "", ""},
		{"GET /sys/key-status", "sys/key-status", "", ""},
		{"GET /sys/rotate/config", "sys/rotate/config", "", ""},
		{"", "sys/rotate/config", `{"interval":"48h"}`, ""},
		{"GET /sys/rotate/keyring/config", "sys/rotate/keyring/config", "", ""},
		{"GET /sys/slots", "sys/slots", "", ""},
		{"GET /sys/slots/{name}", "sys/slots/check", "", ""},
		{"POST /sys/slots/{name}/verify", "sys/slots/check/verify", "", ""},
		{"POST /sys/rotate/recovery/init", "sys/rotate/recovery/init", `{"secret_shares":1,"secret_threshold":1}`, ""},
		{"GET /sys/recovery/verify", "sys/recovery/verify", "", ""},
		{"POST /sys/recovery/verify", "sys/recovery/verify", `{"reset":true}`, ""},
		{"GET /sys/generate-root/attempt", "sys/generate-root/attempt", "", ""},
		{"POST /sys/generate-root/attempt", "sys/generate-root/attempt", `{}`, ""},
		{"POST /sys/generate-root/update", "sys/generate-root/update", `{"key":"$share","nonce":"$nonce"}`, ""},
		{"POST /sys/decode-token", "sys/decode-token", `{"encoded_token":"$encoded","otp":"$otp"}`, ""},
		{"GET /sys/rotate/recovery/init", "sys/rotate/recovery/init", "", ""},
		{"POST /sys/rotate/recovery/init", "sys/rotate/recovery/init", `{"secret_shares":1,"secret_threshold":1}`, ""},
		{"POST /sys/rotate/recovery/update", "sys/rotate/recovery/update", `{"key":"$share","nonce":"$nonce"}`, ""},
		{"GET /sys/rotate/recovery/verify", "sys/rotate/recovery/verify", "", ""},
		{"DELETE /sys/rotate/recovery/verify", "sys/rotate/recovery/verify", "", ""},
		{"POST /sys/rotate/recovery/verify", "sys/rotate/recovery/verify", `{"key":"$share","nonce":"$nonce"}`, ""},
		{"DELETE /sys/slots/{name}", "sys/slots/recovery-shares", "", ""},
		{"POST /sys/rotate/root", "sys/rotate/root", "{}", ""},
	} {
		method, _, _ := strings.Cut(c.op, " ")
		header := []string{}
		if method == "PATCH" {
			header = append(header, "Content-Type: application/merge-patch+json")
		}
		value := func(name string) string { return known[name] }
		r := f.Call(t, cmp.Or(method, "POST"), os.Expand(c.path, value), os.Expand(c.body, value), header...)
		if r.Status/100 != 2 {
			t.Errorf("%s: %d %s", c.path, r.Status, r.Text)
			continue
		}
		for name, at := range map[string][]string{
			"accessor": {"auth", "accessor"}, "token": {"auth", "client_token"}, "nonce": {"nonce"}, "otp": {"otp"}, "encoded": {"encoded_token"}, "migration_id": {"data", "migration_id"},
		} {
			if text, _ := r.Get(at...).(string); text != "" {
				known[name] = text
			}
		}
		if shares, _ := r.Get("keys").([]any); len(shares) == 1 && r.Get("keys_base64") != nil {
			known["share"], known["nonce"] = shares[0].(string), r.Get("verification_nonce").(string)
		}
		if c.op == "" {
			continue
		}
		checked[c.op] = true
		var whole any
		if err := json.Unmarshal([]byte(r.Text), &whole); err != nil {
			t.Fatal(err)
		}
		if err := ops[c.op].Responses.Value("200").Value.Content["application/json"].Schema.Value.VisitJSON(whole); err != nil {
			t.Errorf("%s: %v", c.op, err)
		}
		is := routes[c.op]
		if strings.Contains(c.path, "list=true") {
			is = routes[strings.Replace(c.op, "GET", "LIST", 1)]
		}
		fields, got := is.fields, r.Get("data")
		switch {
		case strings.Contains(c.op, "/login/"):
			fields, got = api.FieldsOf(api.Auth{}), r.Get("auth")
		case is.raw:
			got = whole
		case fields == nil:
			t.Errorf("%s: nothing is said of the answer", c.op)
			continue
		}
		compareFields(t, c.op, fields, got, strings.Fields(c.without))
	}
	// Nothing is said that is not checked, apart from what is of the same code as something that is.
	for what := range ops {
		if is := routes[what]; checked[what] || len(is.fields) == 0 || alike.MatchString(what) {
			continue
		} else if !slices.EqualFunc(is.fields, api.FieldsOf(api.Names{}), func(a, b api.Field) bool { return a.Name == b.Name }) {
			t.Errorf("%s says what it answers, which is not checked: add a request for it to the table of this test (an operation \"\" prepares others)", what)
		}
	}
}

// alike are the operations that the code of others answers, too; those of one role
// differ in a name, and one more slot would need one more seal. TestInitAnswer has
// the answer of init.
var alike = regexp.MustCompile(` /auth/approle/role/{name}/|^GET /auth/cert/crls/|^POST /sys/slots/{name}$| /sys/rekey-recovery-key/| /sys/generate-root-token/|^POST /sys/init$|^HEAD |^GET /sys/wrapping/lookup$`)

// An answered operation is what a type says of it.
type answered struct {
	fields []api.Field
	raw    bool
}

// operations are those of all types, by method and path; lists are those of LIST.
func (f *fixture) operations() map[string]answered {
	all := map[string]answered{}
	for _, typ := range f.Types() {
		for _, rt := range typ.Routes {
			for op, h := range rt.Ops {
				what := strings.Replace(server.OpMethods[op], "PUT", "POST", 1) + " /" + strings.TrimSuffix(mountedAt(typ)+strings.ReplaceAll(rt.Path, "...}", "}"), "/")
				all[strings.Replace(what, "/kv2/", "/secret/", 1)] = answered{rt.Out(op), h.Raw()}
			}
		}
	}
	return all
}

// compareFields compares an object of an answer with what is said of it.
func compareFields(t *testing.T, what string, fields []api.Field, value any, without []string) {
	t.Helper()
	object, ok := value.(map[string]any)
	if !ok {
		t.Errorf("%s is %v", what, value)
	}
	said, each := map[string]api.Field{}, []api.Field(nil)
	for _, f := range fields {
		if f.Name == api.Each {
			each = append(each, f)
			continue
		}
		said[f.Name] = f
		if _, has := object[f.Name]; !has && !f.Optional && !slices.Contains(without, f.Name) {
			t.Errorf("%s has no %s", what, f.Name)
		}
	}
	for name, member := range object {
		f, ok := said[name]
		if !ok && len(each) > 0 {
			f, ok = each[0], true
		}
		switch {
		case !ok:
			t.Errorf("%s has %s, of which nothing is said", what, name)
		case slices.Contains(without, name):
			t.Errorf("%s has %s", what, name)
		case member == nil || len(f.Fields) == 0:
		case f.Kind == api.ObjectField:
			compareFields(t, what+" "+name, f.Fields, member, nil)
		case f.Kind == api.ObjectsField:
			for _, one := range member.([]any) {
				compareFields(t, what+" "+name, f.Fields, one, nil)
			}
		}
	}
}
