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
	return aclOf(t, "path \"a\" {\n"+rules+"\n}").Find("a").Check(params, nil, free) == nil
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

// What a parameter is to the handler decides which values are the same.
func TestParameterRulesCompareValuesAsTheHandlerReadsThem(t *testing.T) {
	for _, c := range []struct {
		kind            ParameterKind
		rule            string
		passes, refused string
	}{
		{FlagParameter, `allowed_parameters = { p = [true] }`, `true "true" "1" 1 "T"`, `false 0 "" null "x" [] {}`},
		{FlagParameter, `denied_parameters = { p = [false] }`, `true "t" 1`, `false 0 "0" "" null "f" "x" [false] {}`},
		{DurationParameter, `allowed_parameters = { p = ["1h"] }`, `"1h" 3600 "3600" "60m" "1H"`, `"2h" 3601 "" null "x" ["1h"] {}`},
		{DurationParameter, `allowed_parameters = { p = ["*m"] }`, `"5m" "60m"`, `"1h" 300`},
		{DurationParameter, `denied_parameters = { p = ["1h"] }`, `"2h" 3601 "" null`, `"1h" 3600 "60m" "x" "1h,2h" ["2h"] {}`},
		{NumberParameter, `allowed_parameters = { p = [5] }`, `5 "5" 5.0 5e0 "05" 50e-1`, `6 "" null "x" [5] 5e400`},
		{NumberParameter, `denied_parameters = { p = [0] }`, `1 "2"`, `0 "0" 0.0 "" null 0e5 "x"`},
		{TextParameter, `allowed_parameters = { p = ["a,b"] }`, `"a,b"`, `"a" "b" "b,a" ["a","b"]`},
		{TextParameter, `denied_parameters = { p = ["a"] }`, `"a,b" "b" "1" true`, `"a" "A" " a " ["b"] {}`},
		{TextParameter, `denied_parameters = { p = ["1"] }`, `true "01" "t"`, `1 "1"`},
		{ListParameter, `allowed_parameters = { p = ["app-*"] }`, `"app-x" ["app-x"] "app-x,app-y" ["app-x","app-y"]`, `"" null [] "app-x," ["app-x",""] "admin" ["app-x","admin"] {} [["app-x"]]`},
		{ListParameter, `allowed_parameters = { p = ["*"] }`, `"a" ["a","b"]`, `"" null [] ["a",null]`},
		{ListParameter, `allowed_parameters = { p = ["", "a"] }`, `"" "a"`, `null [] "b"`},
		{ListParameter, `denied_parameters = { p = ["a"] }`, `"b" ["b"] "" [] null`, `"a" ["a"] "b, A" ["b","a"]`},
		{JSONParameter, `allowed_parameters = { p = [{a = 1}] }`, `{"a":1} {"a":1.0} {"a":10e-1}`, `{"a":2} {"a":1,"b":2} {"a":"1"} {} null "a"`},
		{JSONParameter, `denied_parameters = { p = [{a = [1, "x"]}] }`, `{"a":[1]} {"a":["x",1]} {} null`, `{"a":[1,"x"]} {"a":[1.0,"x"]}`},
	} {
		g := aclOf(t, "path \"a\" {\n"+c.rule+"\n}").Find("a")
		for _, list := range []struct {
			values string
			want   bool
		}{{c.passes, true}, {c.refused, false}} {
			d := json.NewDecoder(strings.NewReader(list.values))
			d.UseNumber()
			for d.More() {
				var value any
				if err := d.Decode(&value); err != nil {
					t.Fatal(err)
				}
				if got := g.Check(map[string]any{"p": value}, func(string) ParameterKind { return c.kind }, false) == nil; got != list.want {
					t.Errorf("%s, kind %d, with %v: %v", c.rule, c.kind, value, got)
				}
			}
		}
	}
}

// A number is the same however it is written, and a large exponent costs nothing.
func TestSpellNumber(t *testing.T) {
	for text, want := range map[string]string{
		"1": "1", "1.0": "1", "-1.50": "-1.5", "1e3": "1000", "1E+3": "1000", "12.5e1": "125", "12.5e-3": "0.0125", "0e7": "0", "-0.0": "0",
		"5e-1": "0.5", "100e-2": "1", "1e400": "1" + strings.Repeat("0", 400), "1e401": "1e401", "1e-99999999999": "1e-99999999999", "12345678901234567890.10": "12345678901234567890.1",
	} {
		if got := spellNumber(text); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}
