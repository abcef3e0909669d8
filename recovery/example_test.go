package recovery_test

import (
	"fmt"

	"github.com/sealkeep/sealkeep/recovery"
)

// A root key that any two of three people can open.
func Example() {
	lock, shares, err := recovery.Split(3, 2)
	if err != nil {
		panic(err)
	}
	to, _, _, err := recovery.Recipients(lock)
	if err != nil {
		panic(err)
	}
	blob, err := recovery.Wrap(to, []byte("root key"), []byte("of this store"))
	if err != nil {
		panic(err)
	}

	// Years later, two of them meet.
	c, err := recovery.NewCollection(lock)
	if err != nil {
		panic(err)
	}
	for _, share := range [][]byte{shares[2], shares[2], shares[0]} {
		if _, err := c.Add(share); err != nil {
			fmt.Println(err)
		}
	}
	identity, err := c.Identity()
	if err != nil {
		panic(err)
	}
	root, err := recovery.Unwrap(identity, blob, []byte("of this store"))
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", root)
	// Output:
	// this recovery share was given before: give another one
	// root key
}
