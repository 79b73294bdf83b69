package threeboxes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// patience is how long a test waits for something that must happen, even on a busy machine.
const patience = time.Minute

// await waits until ok returns true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !eventually(patience, ok) {
		t.Fatalf("after %s: not %s", patience, what)
	}
}

// eventually polls ok until it returns true, and reports false if it does not within the
// limit. It is the only place where these tests sleep until something happens.
func eventually(limit time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok() // the test itself may not have run for seconds
}

// The secrets of the fleet.
const (
	clientKey   = "client-secret"
	upstreamKey = "upstream-secret"
	fleetKey    = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
)

// box is a llmsup with a llama-server, in a network namespace.
type box struct {
	*host
	url     string // http://host:port
	state   string // state directory
	file    string // llmsup.yaml
	log     string // file
	client  *control.Client
	process *exec.Cmd     // nil = it does not run
	ended   chan struct{} // closed when the process has ended
	kills   atomic.Int64  // how often it was killed
}

// newBox configures a box. The fleet has its keys and routes.
func newBox(t *testing.T, h *host, model string, nats []string, slots int, upstream string) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "llmsup-box") //nolint:usetesting // t.TempDir's path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &box{
		host: h, url: "http://" + h.address + ":8000", state: dir, file: filepath.Join(dir, "llmsup.yaml"), log: filepath.Join(dir, "log"),
		client: control.NewClient(filepath.Join(dir, "c.sock")),
	}
	b.client.Version = firstVersion
	text := fmt.Sprintf(`
servers:
  demo: {model: %s, ctx_size: %d, stall_timeout: 2s, args: [-np, "%d"]}
upstreams:
  paid: {base_url: "%s/v1", api_key_env: TEST_UPSTREAM_KEY}
prices:
  paid:
    demo: {prompt: 0, completion: %g}
budget: {daily: 1000}
fleet: {nats: [%s], name: %s, advertise: %q, key_file: %s/fleet-key}
`, model, 4096*slots, slots, upstream, tokenPrice.Float(), strings.Join(nats, ", "), h.name, b.url, dir)
	for path, text := range map[string]string{b.file: text, filepath.Join(dir, "fleet-key"): fleetKey} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		b.stop()
		if t.Failed() {
			b.printLog()
		}
	})
	return b
}

// start starts a build of llmsup. A fast one has a clock that is a second ahead.
func (b *box) start(version string, fast bool) {
	b.t.Helper()
	log, err := os.OpenFile(b.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program(version), "start", "--config", b.file, "--listen", b.address+":8000", "--state-dir", b.state,
		"--control-socket", filepath.Join(b.state, "c.sock"), "--llama-server", llamaServer(b.t), "--gpu", "none", "--log-format", "json", "--log-level", "info")
	// With a thread for each core, llama-servers wait for each other.
	cmd.Env = append(os.Environ(), "TEST_UPSTREAM_KEY="+upstreamKey, "LLAMA_ARG_THREADS=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := cmd.Start
	if fast {
		start = func() error { return startFast(cmd) }
	}
	if err := b.within(start); err != nil {
		b.t.Fatalf("start %s: %v", b.name, err)
	}
	b.process, b.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(b.ended)
}

// llamaServer returns the real llama-server.
func llamaServer(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath(os.Getenv("LLMSUP_TEST_LLAMA_SERVER"))
	if err != nil {
		t.Fatalf("LLMSUP_TEST_LLAMA_SERVER: %v: run scripts/test.sh, which gets a llama-server", err)
	}
	return path
}

// kill ends the box with SIGKILL.
func (b *box) kill() {
	b.t.Helper()
	b.kills.Add(1) // first: the load must know that the calls that break now were cut by this
	b.signal(syscall.SIGKILL)
	<-b.ended
	b.process = nil
}

// stop ends the box with SIGTERM, if it runs.
func (b *box) stop() {
	b.t.Helper()
	if b.process == nil {
		return
	}
	b.signal(syscall.SIGTERM)
	select {
	case <-b.ended:
	case <-time.After(patience):
		b.t.Errorf("%s does not stop", b.name)
		b.kill()
	}
	b.process = nil
}

func (b *box) signal(s syscall.Signal) {
	b.t.Helper()
	if err := b.process.Process.Signal(s); err != nil {
		b.t.Errorf("%s has ended: %v", b.name, err)
	}
}

// status returns the status, or none if the box does not answer.
func (b *box) status() (s control.Status) {
	s, _ = b.client.Status(b.t.Context())
	return s
}

// fleetBudget returns the budget of the fleet, as the box knows it; nil = it has none.
func (b *box) fleetBudget() *control.Budget { return b.budget(true) }

// budget returns the budget of the fleet, or that of the box alone.
func (b *box) budget(fleet bool) *control.Budget {
	for _, budget := range b.status().Budgets {
		if (budget.Fleet != nil) == fleet {
			return &budget
		}
	}
	return nil
}

// engine returns the process of the box's llama-server; 0 = it is not ready.
func (b *box) engine() (pid int) {
	s := b.status()
	if len(s.Servers) == 1 && s.Servers[0].State == "ready" {
		pid = s.Servers[0].PID
	}
	return pid
}

// printLog prints the last lines of the log that are not about single calls.
func (b *box) printLog() {
	text, _ := os.ReadFile(b.log)
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, `"request_id"`) {
			lines = append(lines, line)
		}
	}
	b.t.Logf("log of %s:\n%s", b.name, strings.Join(lines[max(0, len(lines)-60):], ""))
}
