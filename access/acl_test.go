package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func aclOf(t testing.TB, texts ...string) *ACL {
	t.Helper()
	var policies []*Policy
	for i, text := range texts {
		policies = append(policies, mustParse(t, fmt.Sprint("p", i), text))
	}
	return NewACL(policies)
}

// allow is a policy that allows reading each path.
func allow(paths ...string) string {
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "path %q {\n  capabilities = [\"read\"]\n}\n", p)
	}
	return b.String()
}

// The rule that decides is the one with the highest priority, whatever it allows.
func TestPriority(t *testing.T) {
	for _, c := range []struct{ rules, path, want string }{
		{"secret/foo", "secret/foo", "secret/foo"},
		{"secret/foo", "secret/food", ""},
		{"secret/foo", "secret/foo/bar", ""},
		{"secret/foo", "secret/foo/", "secret/foo"},
		{"secret/foo/", "secret/foo", ""},
		{"secret/bar/*", "secret/bar/zip/zap", "secret/bar/*"},
		{"secret/bar/*", "secret/bars/zip", ""},
		{"secret/zip-*", "secret/zip-zap/zong", "secret/zip-*"},
		{"secret/zip-*", "secret/zip/zap", ""},
		{"secret/+/teamb", "secret/foo/teamb", "secret/+/teamb"},
		{"secret/+/teamb", "secret/foo/bar/teamb", ""},
		{"secret/+/+/teamb", "secret/foo/bar/teamb", "secret/+/+/teamb"},
		{"+/a", "b/a", "+/a"},
		{"a/+", "a/b", "a/+"},
		{"a/+", "a", ""},
		{"a/+/*", "a/b", ""},
		{"a/+/*", "a/b/", "a/+/*"},
		{"a/+/*", "a/b/c/d", "a/+/*"},
		{"a/+/c*", "a/b/cd/e", "a/+/c*"},
		{"a/+/c*", "a/b/dc", ""},
		{"a/b+/c", "a/bx/c", ""},
		{"a/b+/c", "a/b+/c", "a/b+/c"},
		{"a*b", "axb", ""},
		{"a*b", "a*b", "a*b"},
		{"*", "anything/at/all", "*"},
		{"* a/b", "a/b", "a/b"},
		// the five criteria
		{"secret/* secret/f*", "secret/foo", "secret/f*"},
		{"secret/+/x secret/foo/*", "secret/foo/x", "secret/foo/*"},
		{"secret/+/* secret/+/x", "secret/foo/x", "secret/+/x"},
		{"secret/* secret/+/+/foo/*", "secret/a/b/foo/c", "secret/*"},
		{"a/+/+/d* a/+/c/d*", "a/b/c/de", "a/+/c/d*"},
		{"a/+/c/+/e a/+/+/d/e", "a/b/c/d/e", "a/+/c/+/e"},
		{"a/+/c* a/+/cd*", "a/b/cde", "a/+/cd*"},
		{"+/b/+ +/+/c", "a/b/c", "+/b/+"},
		{"a/b a/+ a/* *", "a/b", "a/b"},
	} {
		var rules []string
		for r := range strings.FieldsSeq(c.rules) {
			rules = append(rules, r)
		}
		got, _, _ := aclOf(t, allow(rules...)).Find(c.path).Rule()
		if got != c.want {
			t.Errorf("%s of %s: %q, want %q", c.path, c.rules, got, c.want)
		}
	}
}

// The same, against a plain reading of the documentation.
func TestPriorityAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	decided := 0
	for range 3000 {
		var rules []string
		for range 1 + r.IntN(12) {
			rule := pick("a", "b", "+")
			for range r.IntN(4) {
				rule += "/" + pick("a", "b", "ab", "+")
			}
			switch r.IntN(4) {
			case 0:
				rule += "/*"
			case 1:
				rule = strings.TrimSuffix(rule, "+") + "*"
			}
			rules = append(rules, rule)
		}
		a := aclOf(t, allow(rules...))
		for range 10 {
			path := pick("a", "b")
			for range r.IntN(4) {
				path += "/" + pick("a", "b", "ab", "c")
			}
			got, _, ok := a.Find(path).Rule()
			want := ""
			for _, rule := range rules {
				if modelMatches(rule, path) && (want == "" || modelLess(want, rule)) {
					want = rule
				}
			}
			if got != want || ok != (want != "") {
				t.Fatalf("%s in %q: %q, want %q", path, rules, got, want)
			}
			if ok {
				decided++
			}
		}
	}
	if decided < 1000 {
		t.Errorf("only %d paths matched a rule", decided)
	}
}

func modelMatches(rule, path string) bool {
	pattern := regexp.QuoteMeta(strings.TrimSuffix(rule, "*"))
	pattern = regexp.MustCompile(`(^|/)\\\+`).ReplaceAllString(pattern, "${1}[^/]*")
	if strings.HasSuffix(rule, "*") {
		pattern += ".*"
	}
	return regexp.MustCompile("^" + pattern + "$").MatchString(path)
}

// modelLess tells whether p has a lower priority than q; no wildcard at all is
// one that comes last.
func modelLess(p, q string) bool {
	first := func(s string) int {
		if i := strings.IndexAny(s, "+*"); i >= 0 {
			return i
		}
		return 1 << 20
	}
	switch glob := strings.HasSuffix(p, "*"); {
	case first(p) != first(q):
		return first(p) < first(q)
	case glob != strings.HasSuffix(q, "*"):
		return glob
	case strings.Count(p, "+") != strings.Count(q, "+"):
		return strings.Count(p, "+") > strings.Count(q, "+")
	case len(p) != len(q):
		return len(p) < len(q)
	}
	return p < q
}

// Only the best rule counts: it may allow less than others. The same path in
// several policies is the union; a denial there takes all.
func TestUnion(t *testing.T) {
	a := aclOf(t, `
		path "a/*" { capabilities = ["read", "list", "sudo"] }
		path "a/b" { capabilities = ["update"] }
		path "c" { capabilities = ["read", "deny"] }
		path "d" { capabilities = ["read"] }`, `
		path "a/b" { capabilities = ["delete"] }
		path "/a/b" { capabilities = ["patch"] }
		path "d" { capabilities = ["deny"] }`, `
		path "d" { capabilities = ["update"] }`)
	for path, want := range map[string]string{"a/x": "list read sudo", "a/b": "delete patch update", "c": "deny", "d": "deny", "e": "deny"} {
		if got := strings.Join(a.Capabilities(path).Names(), " "); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if g := a.Find("d"); g.Has(CanRead) || g.Has(CanUpdate) || g.Has(0) || g.Restricted() {
		t.Error("what is denied is allowed")
	}
	if !a.Sudo("a/x") || a.Sudo("a/b") || a.Root() {
		t.Error("sudo")
	}
	root := NewACL([]*Policy{{Name: RootPolicy}, mustParse(t, "x", `path "a" { capabilities = ["deny"] }`)})
	if !root.Root() || !root.Find("a").Has(CanRead|CanSudo) || !root.Sudo("a") || strings.Join(root.Capabilities("a").Names(), "") != "root" || root.Find("a").Restricted() {
		t.Error("root is not root")
	}
	if g := new(ACL).Find("a"); g.Has(CanRead) || g.Has(0) || g.Capabilities() != 0 || new(ACL).Within("a/") {
		t.Error("nothing allows something")
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		rule, folder string
		want         bool
	}{
		{"secret/data/x", "secret/", true}, {"secret/*", "secret/", true}, {"sec*", "secret/", true}, {"*", "secret/", true}, {"secret", "secret/", true},
		{"secrets/x", "secret/", false}, {"secretx*", "secret/", false}, {"+/data/x", "secret/", true}, {"+/x", "a/b/", false}, {"+/b/x", "a/b/", true},
		{"secret/+/x", "secret/", true}, {"other/+/x", "secret/", false}, {"a/*", "a/b/", true}, {"a/c*", "a/b/", false}, {"a/+", "a/b/c/", false},
	} {
		if got := aclOf(t, allow(c.rule)).Within(c.folder); got != c.want {
			t.Errorf("%s within %s: %v", c.rule, c.folder, got)
		}
		if aclOf(t, `path "`+c.rule+`" { capabilities = ["deny"] }`).Within(c.folder) {
			t.Errorf("a denial of %s is something allowed", c.rule)
		}
	}
}

func TestParameters(t *testing.T) {
	for _, c := range []struct {
		rules string // of one policy, or of two with "---" between
		body  string
		want  bool
	}{
		{`required_parameters = ["name", "ID"]`, `{"name":1,"id":null}`, false},
		{`required_parameters = ["name", "ID"]`, `{"name":1,"id":2,"more":3}`, true},
		{`required_parameters = ["name", "ID"]`, `{"Name":1,"iD":2}`, false},
		{`required_parameters = ["name", "ID"]`, `{"name":1}`, false},
		{`required_parameters = ["name"]`, `{}`, false},
		{`allowed_parameters = { a = [] }`, `{}`, true},
		{`allowed_parameters = { a = [] }`, `{"a":[{"any":"thing"}]}`, true},
		{`allowed_parameters = { a = [] }`, `{"A":1}`, false},
		{`allowed_parameters = { a = [] }`, `{"a":1,"b":1}`, false},
		{`allowed_parameters = { bar = ["zip", "zap"] }`, `{"bar":"zap"}`, true},
		{`allowed_parameters = { bar = ["zip", "zap"] }`, `{"bar":"zop"}`, false},
		{`allowed_parameters = { bar = ["zip", "zap"] }`, `{"bar":["zip","zap"]}`, true},
		{`allowed_parameters = { bar = ["zip", "zap"] }`, `{"bar":["zip","zop"]}`, false},
		{`allowed_parameters = { bar = ["zip", "zap"] }`, `{"bar":[]}`, false},
		{`allowed_parameters = { bar = ["zip", "zap"] }`, `{"bar":"zip, zap"}`, true},
		{`allowed_parameters = { bar = ["zip,zop"] }`, `{"bar":"zip,zop"}`, true},
		{`allowed_parameters = { bar = [["zip"]] }`, `{"bar":["zip"]}`, true},
		{`allowed_parameters = { bar = [{x = 1}] }`, `{"bar":{"x":1}}`, true},
		{`allowed_parameters = { bar = [{x = 1}] }`, `{"bar":{"x":2}}`, false},
		{`allowed_parameters = { bar = [null] }`, `{"bar":null}`, true},
		{`allowed_parameters = { bar = ["zip"], "*" = [] }`, `{"bar":"zip","x":1}`, true},
		{`allowed_parameters = { bar = ["zip"], "*" = [] }`, `{"bar":"zap","x":1}`, false},
		{`allowed_parameters = { "*" = [] }`, `{"x":1}`, true},
		{`allowed_parameters = {}`, `{"x":1}`, true},
		{`allowed_parameters = { a = ["foo-*", "*-bar", "*mid*"] }`, `{"a":"foo-x"}`, true},
		{`allowed_parameters = { a = ["foo-*", "*-bar", "*mid*"] }`, `{"a":"x-bar"}`, true},
		{`allowed_parameters = { a = ["foo-*", "*-bar", "*mid*"] }`, `{"a":"amidst"}`, true},
		{`allowed_parameters = { a = ["foo-*", "*-bar", "*mid*"] }`, `{"a":"xfoo-"}`, false},
		{`allowed_parameters = { a = ["*"] }`, `{"a":"x"}`, true},
		{`allowed_parameters = { a = ["*"] }`, `{"a":["x"]}`, true},
		{`allowed_parameters = { a = [2, true, 1.5] }`, `{"a":2}`, true},
		{`allowed_parameters = { a = [2, true, 1.5] }`, `{"a":"2"}`, true},
		{`allowed_parameters = { a = [2, true, 1.5] }`, `{"a":2.0}`, true},
		{`allowed_parameters = { a = [2, true, 1.5] }`, `{"a":15e-1}`, true},
		{`allowed_parameters = { a = [2, true, 1.5] }`, `{"a":true}`, true},
		{`allowed_parameters = { a = [2, true, 1.5] }`, `{"a":3}`, false},
		{`allowed_parameters = { a = [2] }`, `{"a":1e400}`, false},
		{`denied_parameters = { a = [] }`, `{"b":1}`, true},
		{`denied_parameters = { a = [] }`, `{"a":null}`, false},
		{`denied_parameters = { policieS = [] }`, `{"POLICIEſ":1}`, false},
		{`denied_parameters = { k = [] }`, `{"` + "\u212a" + `":1}`, false},
		{`denied_parameters = { "*" = [] }`, `{"b":1}`, false},
		{`denied_parameters = { "*" = [] }`, `{}`, true},
		{`denied_parameters = { p = ["admin"] }`, `{"p":"user"}`, true},
		{`denied_parameters = { p = ["admin"] }`, `{"p":"admin"}`, false},
		{`denied_parameters = { p = ["admin"] }`, `{"p":["user","admin"]}`, false},
		{`denied_parameters = { p = ["admin"] }`, `{"p":"user, admin"}`, false},
		{`denied_parameters = { p = ["adm*"] }`, `{"p":["administrator"]}`, false},
		{`denied_parameters = { p = [false] }`, `{"p":"false"}`, false},
		{`denied_parameters = { p = ["x"] }
		  allowed_parameters = { p = [] }`, `{"p":"x"}`, false},
		{`denied_parameters = { p = ["x"] }
		  allowed_parameters = { p = [] }`, `{"p":"y"}`, true},
		{`denied_parameters = { p = ["x"] }
		  allowed_parameters = { p = [] }`, `{"q":"y"}`, false},
		{`allowed_parameters = { a = ["x"] }---allowed_parameters = { a = ["y"] }`, `{"a":"y"}`, true},
		{`allowed_parameters = { a = ["x"] }---allowed_parameters = { a = [] }`, `{"a":"z"}`, true},
		{`allowed_parameters = { a = ["x"] }---allowed_parameters = { b = [] }`, `{"a":"x","b":1}`, true},
		{`allowed_parameters = { a = ["x"] }---denied_parameters = { a = ["x"] }`, `{"a":"x"}`, false},
		{`required_parameters = ["a"]---required_parameters = ["b"]`, `{"a":"x"}`, false},
		{`required_parameters = ["a"]---capabilities = ["deny"]`, `{"a":"x"}`, true}, // denied elsewhere: nothing is left to restrict
	} {
		var texts []string
		for part := range strings.SplitSeq(c.rules, "---") {
			texts = append(texts, "path \"a\" {\n"+part+"\n}")
		}
		for _, order := range [][]string{texts, {texts[len(texts)-1], texts[0]}} {
			g := aclOf(t, order...).Find("a")
			var params map[string]any
			d := json.NewDecoder(strings.NewReader(c.body))
			d.UseNumber()
			if err := d.Decode(&params); err != nil {
				t.Fatal(err)
			}
			err := g.Check(params, nil, false)
			if (err == nil) != c.want || err != nil && !errors.Is(err, ErrDenied) {
				t.Errorf("%s with %s: %v", c.rules, c.body, err)
			}
		}
	}
}

// A policy is shared by many ACLs: compiling one changes none.
func TestPoliciesAreImmutable(t *testing.T) {
	p := mustParse(t, "p", `path "a" {
		capabilities = ["read"]
		allowed_parameters = { x = ["1"] }
		required_parameters = ["x"]
	}`)
	q := mustParse(t, "q", `path "a" {
		capabilities = ["update"]
		allowed_parameters = { x = [], y = [] }
		required_parameters = ["y"]
	}`)
	NewACL([]*Policy{p, q})
	NewACL([]*Policy{p, mustParse(t, "r", `path "a" { capabilities = ["deny"] }`)})
	g := NewACL([]*Policy{p}).Find("a")
	if g.Has(CanUpdate) || !g.Has(CanRead) || g.Check(map[string]any{"x": "2"}, nil, false) == nil || g.Check(map[string]any{"x": "1"}, nil, false) != nil {
		t.Errorf("%+v", g.rule)
	}
}

// twenty is 20 policies with 10 paths each, of every kind.
func twenty(t testing.TB) *ACL {
	var policies []*Policy
	for i := range 20 {
		var b strings.Builder
		for j := range 10 {
			path := [...]string{"secret/data/team%d/app%d", "secret/data/team%d/+/app%d", "secret/metadata/team%d/app%d/*", "+/data/team%d/+/x%d/*"}[j%4]
			fmt.Fprintf(&b, "path %q {\n capabilities = [\"read\", \"list\"]\n}\n", fmt.Sprintf(path, i, j))
		}
		policies = append(policies, mustParse(t, fmt.Sprint("p", i), b.String()))
	}
	return NewACL(policies)
}

// BenchmarkDecision is one decision with 20 policies of 10 paths: by a rule for
// just this path, by the last of the others, and by none.
func BenchmarkDecision(b *testing.B) {
	a := twenty(b)
	for _, c := range []struct {
		name, path string
		want       bool
	}{{"exact", "secret/data/team7/app4", true}, {"worst", "kv/data/team0/a/x3/y", true}, {"none", "secret/data/team7/nothing/here", false}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if a.Find(c.path).Has(CanRead) != c.want {
					b.Fatal(c.path)
				}
			}
		})
	}
}

func BenchmarkParsePolicy(b *testing.B) {
	text := allow("secret/data/a", "secret/data/b/*", "secret/+/c", "sys/mounts", "auth/token/create", "x/*", "y/*", "z/*", "u/+/v", "w")
	for b.Loop() {
		if _, err := ParsePolicy("p", text); err != nil {
			b.Fatal(err)
		}
	}
}

// What is reported is what is decided, for a folder too.
func TestARuleWithPlusGrantsListOfAFolder(t *testing.T) {
	const list, both = `capabilities = ["list"]`, `capabilities = ["read", "list"]`
	rule := func(path, what string) string { return `path "` + path + `" { ` + what + " }\n" }
	deny := `capabilities = ["deny"]`
	for _, c := range []struct {
		policy, path string
		want         string // of list, with the rule
		reported     string // by capabilities, slash or not
	}{
		{rule("secret/metadata/+", list), "secret/metadata/app", "secret/metadata/+", "list"},
		{rule("secret/+/app", list), "secret/metadata/app", "secret/+/app", "list"},
		{rule("+/+/+", list), "secret/metadata/app", "+/+/+", "list"},
		{rule("secret/metadata/+", list), "secret/metadata/app/sub", "", "deny"},
		{rule("secret/metadata/+", list), "secret/metadata", "secret/metadata/+", "list"}, // the root of the mount is a folder, too
		// longer and exact ones first
		{rule("secret/metadata/+", list) + rule("secret/*", deny), "secret/metadata/app", "secret/metadata/+", "list"},
		{rule("secret/metadata/+", list) + rule("secret/metadata/*", deny), "secret/metadata/app", "secret/metadata/+", "list"},
		{rule("secret/metadata/+", list) + rule("secret/metadata/+/", deny), "secret/metadata/app", "", "deny"},
		{rule("secret/metadata/+", deny) + rule("secret/metadata/+/", list), "secret/metadata/app", "secret/metadata/+/", "list"},
		{rule("secret/metadata/+", list) + rule("secret/metadata/app", deny), "secret/metadata/app", "", "deny"},
		{rule("secret/metadata/app", list) + rule("secret/metadata/app/*", deny), "secret/metadata/app", "secret/metadata/app", "list"},
		{rule("secret/metadata/ap*", list) + rule("secret/metadata/app/*", deny), "secret/metadata/app", "", "deny"},
		{rule("secret/metadata/ap*", both) + rule("secret/metadata/app/*", deny), "secret/metadata/app", "", "read"},
		{rule("secret/metadata/app/*", list), "secret/metadata/app", "secret/metadata/app/*", "list"},
		{rule("secret/metadata/+", list) + rule("secret/metadata/+", deny), "secret/metadata/app", "", "deny"},
	} {
		a := aclOf(t, c.policy)
		g := a.Find(c.path + "/")
		got, _, _ := g.Rule()
		if g.Has(CanList) != (c.want != "") || c.want != "" && got != c.want {
			t.Errorf("%s: list of %s is decided by %q (%v), want %q", c.policy, c.path, got, g.Has(CanList), c.want)
		}
		if got := strings.Join(a.Capabilities(c.path).Names(), " "); got != c.reported {
			t.Errorf("%s: %s reported for %s, want %s", c.policy, got, c.path, c.reported)
		}
	}
	for rule, want := range map[string]bool{"a/+": true, "a/b": true, "+/+": true, "a/c": false, "+": false, "b/+": false} {
		if got := aclOf(t, allow(rule)).Within("a/b/"); got != want {
			t.Errorf("%s within a/b/: %v", rule, got)
		}
	}
}

// Whatever is reported for a path is what requests for it are told.
func TestCapabilitiesAreWhatIsDecided(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	for range 3000 {
		var policy strings.Builder
		for range 1 + r.IntN(6) {
			path := pick("a", "b", "+")
			for range r.IntN(3) {
				path += "/" + pick("a", "ab", "+")
			}
			path = strings.TrimSuffix(path+pick("", "/", "/*", "*"), "+*")
			if path == "" {
				path = "*"
			}
			fmt.Fprintf(&policy, "path %q { capabilities = [%q, %q] }\n", path, pick("read", "list", "deny"), pick("read", "list", "scan", "update"))
		}
		a := aclOf(t, policy.String())
		for _, path := range []string{"a", "b", "a/a", "a/ab", "b/ab", "a/ab/a"} {
			caps := a.Capabilities(path)
			for _, c := range []Capability{CanRead, CanUpdate, CanList, CanScan} {
				asked := path
				if c == CanList || c == CanScan {
					asked += "/"
				}
				if caps.Has(c) != a.Find(asked).Has(c) {
					t.Fatalf("%s\n%s of %s: reported %v", policy.String(), c.Names(), path, caps.Names())
				}
			}
		}
	}
}

// Size is near what an ACL really takes, never less than half.
func TestSizeOfAnACL(t *testing.T) {
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for _, form := range []string{
		"path \"%d\" {}\n", "path \"secret/data/team/app%d\" {\n capabilities = [\"read\"]\n}\n", "path \"a/+/%d/*\" {}\n",
		"path \"" + strings.Repeat("a/", 100) + "%d\" {}\n", "path \"%d\" {\n allowed_parameters = { a = [" + strings.Repeat("0,", 50) + "1], b = [[\"x\", \"y\"]] }\n}\n",
	} {
		var b strings.Builder
		for n := 0; b.Len() < MaxPolicy-1000; n++ {
			fmt.Fprintf(&b, form, n)
		}
		before := heap()
		p := mustParse(t, "p", b.String())
		a := NewACL([]*Policy{p})
		took, said := heap()-before, p.Size()+a.Size()
		if said < took/2 || said > 8*took {
			t.Errorf("%.40s: %d bytes of memory, Size says %d", form, took, said)
		}
		runtime.KeepAlive(p)
		runtime.KeepAlive(a)
	}
}
