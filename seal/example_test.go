package seal_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/seal"
)

// An application keeps its key in a file that only the key service of its configuration can open.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "app.hcl")
	if err := os.WriteFile(file, []byte(`
		storage "bbolt" { path = "app.db" }

		seal "static" {
		  current_key    = "0000000000000000000000000000000000000000000000000000000000000001" # sealkeep keygen makes a good one
		  current_key_id = "2026-01"
		}`), 0o600); err != nil {
		log.Fatal(err)
	}
	c, err := config.Load([]string{file}, os.LookupEnv)
	if err != nil {
		log.Fatal(err)
	}
	s, err := seal.New(c.Seals[0])
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	place := []byte("app.db, its only key") // the blob opens here and nowhere else
	blob, keyID, err := s.Wrap(ctx, []byte("the application's key"), place)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("wrapped by", keyID)

	secret, err := s.Unwrap(ctx, blob, place)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", secret)

	_, err = s.Unwrap(ctx, blob, []byte("another place"))
	if e, ok := errors.AsType[*seal.Error](err); ok {
		fmt.Println(e.Class())
	}
	// Output:
	// wrapped by 2026-01
	// the application's key
	// blob_mismatch
}
