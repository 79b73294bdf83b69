package fleet

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// TestIPv6: boxes and a NATS server at IPv6 addresses.
func TestIPv6(t *testing.T) {
	t.Parallel()
	url := fleettest.Start(t, func(o *server.Options) { o.Host = "::1" }).URL
	var all []*box
	for i, name := range []string{"a", "b"} {
		s := settings(t, name, url)
		s.Advertise = fmt.Sprintf("http://[fd00::%d]:8000", i+1)
		if key, err := s.Validate(); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		all = append(all, start(t, s))
	}
	all[0].sees(t, "b")
	all[1].sees(t, "a")
	if got := all[0].View().Boxes[0].Address; got != "http://[fd00::2]:8000" {
		t.Errorf("b is at %s", got)
	}
}

// TestDeadServers: a box joins if one of the NATS servers of its list works. Of the others, one
// refuses connections, one accepts them and is silent, and one has a name that does not exist.
func TestDeadServers(t *testing.T) {
	t.Parallel()
	silent, _ := silentServer(t)
	nats := fleettest.Start(t)
	s := settings(t, "a", "nats://127.0.0.1:1", "nats://"+silent, "nats://none.invalid:4222", nats.URL)
	start(t, s).sees(t)
}
