package access

import (
	"encoding/json"
	"strings"
	"testing"
)

// checkBody asks a policy with these rules about the body of a write.
func checkBody(t testing.TB, rules, body string, free bool) bool {
	t.Helper()
	var params map[string]any
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&params); err != nil {
		t.Fatal(err)
	}
	return aclOf(t, "path \"a\" {\n"+rules+"\n}").Find("a").Check(params, free) == nil
}

func TestParameterRulesSeeTheNamesThatTheHandlerReads(t *testing.T) {
	for _, c := range []struct {
		rules, body string
		free, want  bool
	}{
		{`required_parameters = ["options"]`, `{"options":{"cas":1}}`, false, true},
		{`required_parameters = ["options"]`, `{"OPTIONS":{"cas":1}}`, false, false},
		{`required_parameters = ["options"]`, `{"optionſ":{"cas":1}}`, false, false},
		{`required_parameters = ["OPTIONS"]`, `{"options":{"cas":1}}`, false, true},
		{`required_parameters = ["options"]`, `{"options":null}`, false, false},
		{`required_parameters = ["ttl"]`, `{"ttl":null}`, false, false},
		{`required_parameters = ["ttl"]`, `{"ttl":""}`, false, false},
		{`required_parameters = ["ttl"]`, `{"lease":"1h"}`, false, false}, // another name is not the one that is wanted
		{`required_parameters = ["id"]`, `{"İd":1}`, false, false},
		{`required_parameters = ["id"]`, `{"İd":1}`, true, false},
		{`denied_parameters = { id = [] }`, `{"İd":1}`, true, true},
		{`denied_parameters = { id = [] }`, `{"ID":1}`, true, false},
		{`denied_parameters = { id = [] }`, `{"ID":1}`, false, false},
		{`denied_parameters = { id = [] }`, `{"Other":1}`, false, false}, // what no handler reads is not what was meant
		{`denied_parameters = { id = [] }`, `{"größe":1}`, false, true},
		{`denied_parameters = { id = [] }`, `{"GRÖSSE":1}`, false, false},
		{`allowed_parameters = { password = [] }`, `{"Password":"x"}`, true, true},
	} {
		if got := checkBody(t, c.rules, c.body, c.free); got != c.want {
			t.Errorf("%s with %s: %v", c.rules, c.body, got)
		}
	}
}

func TestAllowedParametersSeeEachElementOfAList(t *testing.T) {
	for body, want := range map[string]bool{
		`{"policies":"app-x"}`: true, `{"policies":["app-x"]}`: true, `{"policies":"app-x, app-y"}`: true, `{"policies":["app-x","app-y"]}`: true,
		`{"policies":"app-x,admin"}`: false, `{"policies":["app-x","admin"]}`: false, `{"policies":"app-x,"}`: false,
		`{"policies":[]}`: false, `{"policies":[["app-x"]]}`: false, `{"policies":null}`: false, `{"policies":{"app-x":1}}`: false,
		`{"token_policies":"app-x"}`: false, // is not named
	} {
		if got := checkBody(t, `allowed_parameters = { policies = ["app-*"] }`, body, false); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
	for body, want := range map[string]bool{`{"token_policies":"app-x"}`: true, `{"token_policies":"admin"}`: false, `{"name":"admin"}`: true} {
		if got := checkBody(t, `allowed_parameters = { policies = ["app-*"], "*" = [] }`, body, false); got != want {
			t.Errorf("other names are allowed, %s: %v", body, got)
		}
	}
}

func TestDeniedParametersSeeEveryFormOfAValue(t *testing.T) {
	for _, c := range []struct{ denied, passes, refused string }{
		{`no_parent = [true]`, `false "false" 0 "0" "" null "f"`, `true "true" "1" "T" 1 "t" "TRUE" "True"`},
		{`no_parent = ["1"]`, `false "0"`, `true 1 "t"`},
		{`renewable = [false]`, `true 1`, `false "0" 0 null "" "F"`},
		{`ttl = ["768h"]`, `"1h" 3600 "31d" 2764801 null "x"`, `"768h" 2764800 "2764800" "32d" "46080m" "768h0m0s" 2764800.0 "02764800" "+2764800" " 768H"`},
		{`ttl = [0]`, `1 "1s"`, `0 "0s" "" null "system" "00" "0h"`},
		{`lease = ["1h"]`, `"2h"`, `"1h"`},
		{`num_uses = [5]`, `4 "6"`, `5 "5" "05" "+5" 5.0 5e0`},
		{`policies = ["admin"]`, `"app" ["app"] "admins" ["app","b"] {} null`, `"admin" ["Admin"] "ADMIN" "app,Admin" " admin " ["app"," admin"] "app , ADMIN" [["admin"],"admin"]`},
		{`policies = ["ad*"]`, `"app"`, `"ADMIN" ["app","Adm"]`},
		{`policies = ["Ad*"]`, `"app"`, `"admin"`},
		{`meta = [{a = 1}]`, `{"a":2} {}`, `{"a":1}`},
		{`meta = [null]`, `"x"`, `null ""`},
	} {
		for _, list := range []struct {
			values string
			want   bool
		}{{c.passes, true}, {c.refused, false}} {
			d := json.NewDecoder(strings.NewReader(list.values))
			for d.More() {
				var value json.RawMessage
				if err := d.Decode(&value); err != nil {
					t.Fatal(err)
				}
				name, _, _ := strings.Cut(c.denied, " ")
				body := `{"` + name + `":` + string(value) + `}`
				if got := checkBody(t, "denied_parameters = { "+c.denied+" }", body, false); got != list.want {
					t.Errorf("denied %s with %s: %v", c.denied, body, got)
				}
			}
		}
	}
	for _, names := range sameParameter {
		for _, denied := range names {
			for _, given := range names {
				if checkBody(t, `denied_parameters = { `+denied+` = ["x"] }`, `{"`+given+`":["x"]}`, false) {
					t.Errorf("%s is denied, %s passes", denied, given)
				}
			}
		}
	}
}
