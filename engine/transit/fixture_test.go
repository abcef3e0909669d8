package transit_test

import (
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/engine/cubbyhole"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/engine/transit"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/servertest"
)

// fixture is a keep under test.
type fixture struct{ *servertest.Fixture }

func types() []api.Type {
	return []api.Type{kv.Type(), transit.Type(), cubbyhole.Type()}
}

// fresh runs a new, initialized and unsealed keep.
func fresh(t testing.TB, seals ...keep.Seal) *fixture {
	t.Helper()
	return &fixture{servertest.Fresh(t, servertest.Config{Types: types(), Seals: seals})}
}
