package seal

import (
	"encoding/base64"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var makeGolden = flag.Bool("make-golden", false, "write the golden blobs that do not exist")

// TestGolden opens blobs of every released format, for ever. Their keys are fake, and here. A new format gets new files
// beside the old ones; none is ever written again.
func TestGolden(t *testing.T) {
	kms := newKMS(t)
	vault := newTransitServer(t)
	vault.Write("keep", "key", base64.StdEncoding.EncodeToString(kvKey))
	opened := 0
	for name, s := range map[string]*Seal{
		"static": make1(t, block("static", "static", "current_key", "0f0e0d0c0b0a09080706050403020100f0e0d0c0b0a090807060504030201000", "current_key_id", "golden",
			"previous_key", "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100", "previous_key_id", "before")),
		"transit": transitBlock(t, vault),
		"vaultkv": kvBlock(t, vault),
		"awskms":  awsBlock(kms, "alias/main"),
	} {
		file := filepath.Join("testdata", "golden", name+".blob")
		if *makeGolden {
			if err := makeBlob(t, file, s); err != nil {
				t.Fatal(err)
			}
		}
		blob, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		opens(t, s, blob)
		_, err = s.Unwrap(soon(t), blob, []byte("elsewhere"))
		hasClass(t, err, BlobMismatch)
		opened++
	}
	if files, err := os.ReadDir(filepath.Join("testdata", "golden")); err != nil || len(files) != opened {
		t.Errorf("%d golden blobs were opened, there are %d: %v", opened, len(files), err)
	}
}

// makeBlob writes a new file, and leaves one that is there as it is.
func makeBlob(t *testing.T, file string, s *Seal) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		t.Logf("%s stays as it is", file)
		return nil
	}
	if err != nil {
		return err
	}
	blob, _ := roundTrip(t, s)
	if _, err := f.Write(blob); err != nil {
		return err
	}
	return f.Close()
}
