package fleettest

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout limits the start of a server.
const startTimeout = time.Minute

// Server is a NATS server in the test's process.
type Server struct {
	URL     string
	options server.Options
	running *server.Server
}

// Start starts a server with JetStream on a free port of 127.0.0.1, or of another address that
// change sets as Host. It ends with the test.
func Start(t *testing.T, change ...func(*server.Options)) *Server {
	t.Helper()
	s := &Server{options: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	}}
	for _, c := range change {
		c(&s.options)
	}
	s.start(t)
	s.options.Port = s.running.Addr().(*net.TCPAddr).Port
	s.URL = "nats://" + s.address()
	t.Cleanup(s.Stop)
	return s
}

func (s *Server) address() string {
	return net.JoinHostPort(s.options.Host, strconv.Itoa(s.options.Port))
}

// Restart starts the server again at the same address, once no other program has its port.
func (s *Server) Restart(t *testing.T) {
	t.Helper()
	var lc net.ListenConfig
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		l, err := lc.Listen(t.Context(), "tcp", s.address())
		if err == nil {
			_ = l.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	s.start(t)
}

func (s *Server) start(t *testing.T) {
	t.Helper()
	options := s.options // the server changes them
	running, err := server.NewServer(&options)
	if err != nil {
		t.Fatal(err)
	}
	go running.Start()
	if !running.ReadyForConnections(startTimeout) {
		t.Fatalf("no NATS server at %s within %s", s.address(), startTimeout)
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
