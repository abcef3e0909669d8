package keep

import (
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/api"
)

// longTimeout is the timeout of requests that wait for key services.
const longTimeout = 90 * time.Second

// Routes returns the routes of the keep itself, below sys/.
func (k *Keep) Routes() []api.Route {
	return slices.Concat(k.statusRoutes(), k.rotationRoutes(), k.slotRoutes(), k.recoveryRoutes())
}
