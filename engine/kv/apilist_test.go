package kv_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/storage"
)

// OpenBao's pages of a list, and its list with metadata.
func TestKVListPages(t *testing.T) {
	f := fresh(t)
	for _, path := range []string{"app/a", "app/b", "app/b/inner", "app/c", "app/d"} {
		f.Must(t, 200, "PUT", "secret/data/"+path, `{"data":{}}`)
	}
	f.Must(t, 204, "PUT", "secret/metadata/app/c", `{"custom_metadata":{"owner":"me"}}`)
	for query, want := range map[string]string{
		"":                 "[a b b/ c d]",
		"?limit=0":         "[a b b/ c d]",
		"?limit=-1":        "[a b b/ c d]",
		"?limit=2":         "[a b]",
		"?limit=9":         "[a b b/ c d]",
		"?after=b":         "[b/ c d]",
		"?after=bb":        "[c d]",
		"?after=b&limit=2": "[b/ c]",
		"?after=a&limit=1": "[b]",
	} {
		for _, kind := range []string{"metadata", "detailed-metadata"} {
			r := f.Must(t, 200, "LIST", "secret/"+kind+"/app"+query, "")
			if got := fmt.Sprint(r.Get("data", "keys")); got != want {
				t.Errorf("%s%s: %s, want %s", kind, query, got, want)
			}
			info, _ := r.Get("data", "key_info").(map[string]any)
			if keys := r.Get("data", "keys").([]any); kind == "detailed-metadata" && len(info) != len(keys) || kind == "metadata" && info != nil {
				t.Errorf("%s%s: %s", kind, query, r.Text)
			}
		}
	}
	for _, path := range []string{"secret/metadata/app?after=d", "secret/detailed-metadata/app?after=x", "secret/detailed-metadata/none"} {
		if r := f.Must(t, 404, "LIST", path, ""); r.Text != `{"errors":[]}` {
			t.Errorf("%s: %s", path, r.Text)
		}
	}
	r := f.Must(t, 200, "GET", "secret/detailed-metadata/app?list=true", "")
	if fmt.Sprint(r.Get("data", "key_info", "b/")) != "map[]" || r.Get("data", "key_info", "c", "custom_metadata", "owner") != "me" ||
		r.Get("data", "key_info", "a", "versions", "1", "destroyed") != false {
		t.Errorf("detailed: %s", r.Text)
	}
	r = f.Must(t, 200, "LIST", "secret/detailed-metadata", "")
	if fmt.Sprint(r.Get("data")) != "map[key_info:map[app/:map[]] keys:[app/]]" {
		t.Errorf("detailed, of the mount: %s", r.Text)
	}
}

// OpenBao's list of all that is beneath a folder.
func TestKVScan(t *testing.T) {
	f := fresh(t)
	for _, kind := range []string{"metadata", "detailed-metadata"} {
		if r := f.Must(t, 200, "SCAN", "secret/"+kind, ""); fmt.Sprint(r.Get("data")) != "map[]" {
			t.Errorf("of nothing: %s", r.Text)
		}
	}
	for _, path := range []string{"top", "app/b/inner/x", "app/b", "app/a", "app-2/z"} {
		f.Must(t, 200, "PUT", "secret/data/"+path, `{"data":{}}`)
	}
	f.Must(t, 204, "PUT", "secret/metadata/app/b", `{"custom_metadata":{"owner":"me"}}`)
	for _, c := range []struct{ folder, want string }{
		{"", "[app-2/z app/a app/b app/b/inner/x top]"},
		{"/app", "[a b b/inner/x]"},
		{"/app/b/", "[inner/x]"},
		{"/app/a", "<nil>"},
		{"/app?limit=1&after=a", "[a b b/inner/x]"}, // it has no pages
	} {
		for _, kind := range []string{"metadata", "detailed-metadata"} {
			for _, method := range []string{"SCAN", "GET"} {
				path := "secret/" + kind + c.folder
				if query := "?"; method == "GET" {
					if strings.Contains(path, "?") {
						query = "&"
					}
					path += query + "scan=true"
				}
				r := f.Must(t, 200, method, path, "")
				keys, _ := r.Get("data", "keys").([]any)
				info, _ := r.Get("data", "key_info").(map[string]any)
				if got := fmt.Sprint(r.Get("data", "keys")); got != c.want || r.Get("warnings") != nil {
					t.Errorf("%s %s: %s, want %s", method, path, r.Text, c.want)
				}
				if kind == "detailed-metadata" && len(info) != len(keys) || kind == "metadata" && info != nil {
					t.Errorf("%s %s: %s", method, path, r.Text)
				}
			}
		}
	}
	r := f.Must(t, 200, "SCAN", "secret/detailed-metadata/app", "")
	if r.Get("data", "key_info", "b", "custom_metadata", "owner") != "me" || r.Get("data", "key_info", "b/inner/x", "versions", "1", "destroyed") != false {
		t.Errorf("detailed: %s", r.Text)
	}
	r = f.Must(t, 200, "SCAN", "secret/metadata/app", "", "X-Vault-Wrap-TTL: 1m")
	if r.Get("wrap_info", "creation_path") != "secret/metadata/app/" {
		t.Errorf("wrapped: %s", r.Text)
	}

	f.Policy(t, "scanner", map[string]string{"secret/metadata/*": `"scan", "list"`})
	token := "X-Vault-Token: " + f.Bearer(t, "scanner", "default")
	r = f.Must(t, 200, "POST", "sys/capabilities-self", `{"paths":"secret/metadata/app/"}`, token)
	if got := fmt.Sprint(r.Get("capabilities")); got != "[list scan]" {
		t.Errorf("capabilities: %s", r.Text)
	}
}

// One answer has bounds, and who asks for more is told how to ask.
func TestKVAnswersAreBounded(t *testing.T) {
	f := fresh(t)
	pairs := make(map[string]string)
	for i := range 64 {
		pairs[fmt.Sprint(i)] = strings.Repeat("x", 512)
	}
	text, err := json.Marshal(pairs)
	if err != nil {
		t.Fatal(err)
	}
	custom, err := kv.Parse("custom_metadata", text)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := f.Unsealed().Engines.Load().Find("secret/metadata")
	secrets := 16<<20/len(text) + 1
	err = f.Unsealed().Store.Update(t.Context(), func(tx *storage.Tx) error {
		for i := range secrets {
			if err := (kv.Engine{Prefix: m.Prefix()}).PutMetadata(tx, fmt.Sprintf("app/%03d", i), kv.Settings{}, custom, nil, time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	for method, instead := range map[string]string{"LIST": "ask for them in pages with limit and after", "SCAN": "list the folder, and scan the folders in it"} {
		want := fmt.Sprintf("what is known of these %d names is more than the 16 MiB of one answer: %s", secrets, instead)
		if r := f.Must(t, 400, method, "secret/detailed-metadata/app", ""); r.Errors() != want {
			t.Errorf("%s: %s, want %s", method, r.Text, want)
		}
		if r := f.Must(t, 200, method, "secret/metadata/app", ""); len(r.Get("data", "keys").([]any)) != secrets {
			t.Errorf("%s: %.200s", method, r.Text)
		}
	}
	f.Must(t, 200, "LIST", fmt.Sprintf("secret/detailed-metadata/app?limit=%d", secrets*9/10), "")
}
