package fleettest

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// serverConfig names the configuration of a process that is to be a NATS server.
const serverConfig = "LLMSUP_TEST_NATS_CONFIG"

// Main runs the tests of a package, or a NATS server if Cluster has started this process.
func Main(m *testing.M) {
	file := os.Getenv(serverConfig)
	if file == "" {
		os.Exit(m.Run())
	}
	options, err := server.ProcessConfigFile(file)
	if err == nil {
		options.NoSigs = true
		var s *server.Server
		if s, err = server.NewServer(options); err == nil {
			stop := make(chan os.Signal, 1)
			signal.Notify(stop, syscall.SIGTERM)
			go s.Start()
			<-stop
			os.Exit(0)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Cluster is NATS servers that are processes of their own.
type Cluster struct {
	URLs    []string
	Names   []string
	places  []Place
	configs []string
	running []*exec.Cmd
}

// Place is where a server runs.
type Place struct {
	Address string                // an IP address that it listens on
	Start   func(*exec.Cmd) error // starts the process, for example in a network namespace
}

// StartCluster starts n servers on this host. The package's TestMain has to call Main. They
// end with the test.
func StartCluster(t *testing.T, n int) *Cluster {
	t.Helper()
	return StartClusterAt(t, slices.Repeat([]Place{{"127.0.0.1", (*exec.Cmd).Start}}, n))
}

// StartClusterAt is StartCluster with a server at each of the places.
func StartClusterAt(t *testing.T, places []Place) *Cluster {
	t.Helper()
	c := &Cluster{places: places}
	n := len(places)
	ports, routes, list := make([]int, n), make([]int, n), make([]string, n)
	for i, p := range places {
		ports[i], routes[i] = FreePort(t), FreePort(t)
		list[i] = fmt.Sprintf("nats-route://%s:%d", p.Address, routes[i])
	}
	for i, p := range places {
		dir := t.TempDir()
		name := fmt.Sprintf("n%d", i)
		text := fmt.Sprintf("server_name: %s\nlisten: %s:%d\njetstream: {store_dir: %q}\ncluster: {name: fleet, listen: %s:%d, routes: [%s]}\nlog_file: %q\n",
			name, p.Address, ports[i], dir, p.Address, routes[i], strings.Join(list, ", "), filepath.Join(dir, "log"))
		file := filepath.Join(dir, "nats.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.URLs, c.Names = append(c.URLs, fmt.Sprintf("nats://%s:%d", p.Address, ports[i])), append(c.Names, name)
		c.configs, c.running = append(c.configs, file), append(c.running, nil)
	}
	for i := range n {
		c.Start(t, i)
		t.Cleanup(func() { c.Kill(i) })
	}
	return c
}

// Start starts a server that does not run.
func (c *Cluster) Start(t *testing.T, i int) {
	t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // the test itself
	cmd.Env = append(os.Environ(), serverConfig+"="+c.configs[i])
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if err := c.places[i].Start(cmd); err != nil {
		t.Fatal(err)
	}
	c.running[i] = cmd
}

// Kill ends a server with SIGKILL.
func (c *Cluster) Kill(i int) {
	if cmd := c.running[i]; cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		c.running[i] = nil
	}
}
