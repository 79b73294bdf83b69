package fleettest

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout limits the start of a server.
const startTimeout = 20 * time.Second

// Server is a NATS server in the test's process.
type Server struct {
	URL     string
	options server.Options
	running *server.Server
}

// Start starts a server with JetStream on a free port of 127.0.0.1. It ends with the test.
func Start(t *testing.T, change ...func(*server.Options)) *Server {
	t.Helper()
	port := FreePort(t)
	s := &Server{URL: fmt.Sprintf("nats://127.0.0.1:%d", port), options: server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	}}
	for _, c := range change {
		c(&s.options)
	}
	s.Restart(t)
	t.Cleanup(s.Stop)
	return s
}

// Restart starts the server again at the same address.
func (s *Server) Restart(t *testing.T) {
	t.Helper()
	options := s.options // the server changes them
	running, err := server.NewServer(&options)
	if err != nil {
		t.Fatal(err)
	}
	go running.Start()
	if !running.ReadyForConnections(startTimeout) {
		t.Fatalf("no NATS server at %s within %s", s.URL, startTimeout)
	}
	s.running = running
}

// Stop stops the server. Its memory is lost.
func (s *Server) Stop() {
	s.running.Shutdown()
	s.running.WaitForShutdown()
}

// FreePort returns a port of 127.0.0.1 that no program listened on a moment ago.
func FreePort(t *testing.T) int {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
