package server_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/engine/cubbyhole"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/engine/kvv1"
	"github.com/sealkeep/sealkeep/engine/tfstate"
	"github.com/sealkeep/sealkeep/engine/transit"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/login/approle"
	"github.com/sealkeep/sealkeep/login/cert"
	"github.com/sealkeep/sealkeep/login/jwt"
	"github.com/sealkeep/sealkeep/login/peer"
	"github.com/sealkeep/sealkeep/login/userpass"
	"github.com/sealkeep/sealkeep/servertest"
)

// fixture is a keep under test.
type fixture struct{ *servertest.Fixture }

func types() []api.Type {
	return []api.Type{cubbyhole.Type(), kv.Type(), kvv1.Type(), approle.Type(), cert.Type(), jwt.Type(), peer.Type(), userpass.Type(), transit.Type(), tfstate.Type()}
}

// fresh runs a new, initialized and unsealed keep.
func fresh(t testing.TB, seals ...keep.Seal) *fixture {
	t.Helper()
	return &fixture{servertest.Fresh(t, servertest.Config{Types: types(), Seals: seals})}
}

// freshAudited is fresh with audit devices.
func freshAudited(t testing.TB, devices []audit.Device, seals ...keep.Seal) *fixture {
	t.Helper()
	return &fixture{servertest.Fresh(t, servertest.Config{Types: types(), Seals: seals, Audit: devices})}
}

// start runs a keep on the store at path.
func start(t testing.TB, path string, seals ...keep.Seal) *fixture {
	t.Helper()
	return &fixture{servertest.Start(t, servertest.Config{Path: path, Types: types(), Seals: seals})}
}

// startAudited is start with audit devices.
func startAudited(t testing.TB, path string, devices []audit.Device, seals ...keep.Seal) *fixture {
	t.Helper()
	return &fixture{servertest.Start(t, servertest.Config{Path: path, Types: types(), Seals: seals, Audit: devices})}
}

// The tests see every type that the program has.
func TestTheFixtureHasEveryType(t *testing.T) {
	called := regexp.MustCompile(`\b\w+\.Type\(\)`)
	types := func(path string) []string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		names := called.FindAllString(string(text), -1)
		slices.Sort(names)
		return slices.Compact(names)
	}
	program, tests := types("../cmd/sealkeep/types.go"), types("fixture_test.go")
	for _, name := range program {
		if !slices.Contains(tests, name) {
			t.Errorf("%s is in the list of the program; add it to types in server/fixture_test.go", name)
		}
	}
}

// withMethod is fresh with the login method test.
func withMethod(t testing.TB) *fixture {
	t.Helper()
	return &fixture{servertest.Fresh(t, servertest.Config{Types: append(types(), servertest.LoginType())})}
}
