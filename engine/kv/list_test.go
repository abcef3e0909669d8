package kv

import (
	"context"
	"fmt"
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// A scan names as many secrets as fit an answer, and says what to do when there are
// more.
func TestScanIsBounded(t *testing.T) {
	k := newKeep(t)
	for i := range 5 {
		k.mustPut(fmt.Sprintf("app/%d", i), `{"a":1}`)
	}
	r := &api.Request{Mount: &api.Mount{Folder: k.e.Prefix}, Params: api.Params{Names: &[api.MaxParams]string{"path"}, Values: [api.MaxParams]string{"app"}}}
	scan := func(most int) (a api.Answer, err error) {
		err = k.store.View(context.Background(), func(tx *storage.Tx) (err error) {
			a, err = scanFolder(r, tx, false, most)
			return err
		})
		return a, err
	}
	const want = "there are more than the 4 secrets that a scan names: list the folder, and scan the folders in it"
	if _, err := scan(4); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if a, err := scan(5); err != nil || len(a.Data.(map[string]any)["keys"].([]string)) != 5 {
		t.Errorf("%v, %v", a, err)
	}
}
