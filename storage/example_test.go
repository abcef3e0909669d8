package storage_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/sealkeep/sealkeep/storage"
)

// A store whose root key the application keeps itself. See the example of
// package seal for a root key that a key service wraps into a slot.
func Example() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.db")

	root := storage.NewRootKey()
	if err := storage.Create(path, storage.NewUUID(), root, nil, nil, storage.Options{}); err != nil {
		log.Fatal(err)
	}
	s, err := storage.Open(path, storage.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	fmt.Println("sealed:", s.Sealed())
	if err := s.Unseal(root); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	err = s.Update(ctx, func(tx *storage.Tx) error {
		return tx.Put("customers/ada/card", []byte("4111 1111"))
	})
	if err != nil {
		log.Fatal(err)
	}
	err = s.View(ctx, func(tx *storage.Tx) error {
		names, err := tx.List("customers")
		fmt.Println(names)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// sealed: true
	// [ada/]
}
