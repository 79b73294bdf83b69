package fleetconfig

import (
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

func TestMain(m *testing.M) { fleettest.Main(m) }
