package tfstate_test

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/engine/tfstate"
	"github.com/sealkeep/sealkeep/login/jwt"
	"github.com/sealkeep/sealkeep/servertest"
)

// fixture is a keep under test.
type fixture struct{ *servertest.Fixture }

func types() []api.Type {
	return []api.Type{kv.Type(), jwt.Type(), tfstate.Type()}
}

// fresh runs a new, initialized and unsealed keep.
func fresh(t testing.TB) *fixture {
	t.Helper()
	return &fixture{servertest.Fresh(t, servertest.Config{Types: types()})}
}

// basic is the header of HTTP's Basic authentication, in place of the root token.
func basic(user, password string) []string {
	return []string{"X-Vault-Token: ", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

// stateOf is a state with a serial.
func stateOf(serial int, more string) string {
	return fmt.Sprintf(`{"version":4,"terraform_version":"1.11.4","serial":%d,"lineage":"one","outputs":{"o":{"value":"v%d","type":"string"}},"resources":[%s],"check_results":null}`,
		serial, serial, more)
}

// lockOf is what a client says of its lock.
func lockOf(id string) string {
	return fmt.Sprintf(`{"ID":%q,"Operation":"OperationTypeApply","Info":"","Who":"me@host","Version":"1.11.4","Created":"2026-11-29T01:02:03.1234567Z","Path":""}`, id)
}
