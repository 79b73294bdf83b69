//go:build bench

package bench

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// target is a proxy that is measured.
type target struct {
	name    string
	address string
	pid     int
	profile string // where one built with the tag bench writes its CPU profile
}

const (
	roleVariable = "LLMSUP_BENCH_ROLE"
	roleBaseline = "baseline"

	// idleConnections to the upstream; llmsup keeps as many.
	idleConnections = 64
)

// baseline runs a proxy that does nothing else, as one would write it for these
// calls, until it is killed: argument 1 is where it listens, 2 the upstream.
func baseline() {
	upstream, err := url.Parse("http://" + os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		FlushInterval: -1,
		BufferPool:    &buffers{sync.Pool{New: func() any { return make([]byte, 32<<10) }}},
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			MaxIdleConnsPerHost: idleConnections,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
		},
	}
	// Without full duplex, net/http closes a request's body when the answer begins,
	// while the transport may still look for its end: now and then a stream broke.
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1 has it
		proxy.ServeHTTP(w, r)
	})
	server := &http.Server{Addr: os.Args[1], Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

type buffers struct{ sync.Pool }

func (b *buffers) Get() []byte  { return b.Pool.Get().([]byte) }
func (b *buffers) Put(p []byte) { b.Pool.Put(p) } //nolint:staticcheck // a slice's header is copied once an answer, on both sides the same

func startBaseline(t *testing.T, upstream string, core, others *unix.CPUSet) *target {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	cmd := exec.Command(self, address, upstream)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleBaseline)
	return start(t, reverseName, address, cmd, core, others)
}

// startLLMsup runs llmsup as an operator would, with one upstream that needs no
// key. Its log goes to a file, so that it is written, and no reader of it uses the
// CPU.
func startLLMsup(t *testing.T, name, path, upstream string, core, others *unix.CPUSet) *target {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "llmsup.yaml")
	text := fmt.Sprintf("upstreams:\n  mock:\n    base_url: http://%s/v1\nroutes:\n  %s:\n    primary: mock\n    primary_model: vendor/%s\n", upstream, model, model)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	cmd := exec.Command(path, "start", "--config", config, "--listen", address, "--gpu", "none",
		"--state-dir", filepath.Join(dir, "state"), "--control-socket", filepath.Join(dir, "c.sock"), "--log-format", "json")
	profile := filepath.Join(dir, "cpu.pprof")
	cmd.Env = append(os.Environ(), "LLMSUP_BENCH_PROFILE="+profile)
	p := start(t, name, address, cmd, core, others)
	p.profile = profile
	return p
}

// start runs a proxy on a core and waits until it takes connections. A process
// starts on the cores of the thread that starts it.
func start(t *testing.T, name, address string, cmd *exec.Cmd, core, others *unix.CPUSet) *target {
	t.Helper()
	output, err := os.CreateTemp(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	pinThread(t, 0, core)
	err = cmd.Start()
	pinThread(t, 0, others)
	if err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		_ = output.Close()
	})
	if !eventually(20*time.Second, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}) {
		printed, _ := os.ReadFile(output.Name())
		t.Fatalf("%s does not listen on %s:\n%s", name, address, printed)
	}
	return &target{name: name, address: address, pid: cmd.Process.Pid}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// cpu returns the CPU time of all threads of a process. It reads the process's clock of
// clock_getcpuclockid(3): /proc has it only in steps of 10 ms.
func (p *target) cpu(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(int32(^p.pid<<3|2), &now); err != nil {
		t.Fatalf("read the CPU clock of %s: %v", p.name, err)
	}
	return time.Duration(now.Nano())
}

// memory returns the resident memory of a process, in MB.
func (p *target) memory(t *testing.T) float64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); words[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(words[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib * 1024 / 1e6
		}
	}
	t.Fatalf("%s has no VmRSS", f.Name())
	return 0
}

// keepProfile waits until the process has written its CPU profile, and moves it to a
// path.
func (p *target) keepProfile(t *testing.T, to string) {
	t.Helper()
	if !eventually(10*time.Second, func() bool { return os.Rename(p.profile, to) == nil }) {
		t.Fatalf("%s wrote no profile %s", p.name, p.profile)
	}
}

// eventually polls ok until it returns true, and reports false if it does not within
// the limit.
func eventually(limit time.Duration, ok func() bool) bool {
	for began := time.Now(); time.Since(began) < limit; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

// cores returns one core for the proxy, and the others for everything else. On a machine
// with one core both are the same.
func cores(t *testing.T) (first, others *unix.CPUSet) {
	t.Helper()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	first, others = &unix.CPUSet{}, &unix.CPUSet{}
	for core := range len(all) * 64 {
		switch {
		case !all.IsSet(core):
		case first.Count() == 0:
			first.Set(core)
		default:
			others.Set(core)
		}
	}
	if others.Count() == 0 {
		t.Log("there is one core for all: the figures tell little")
		others = first
	}
	return first, others
}

// pinProcess pins every thread of this process, and so all that they start.
func pinProcess(t *testing.T, set *unix.CPUSet) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		pinThread(t, id, set)
	}
}

// pinThread pins a thread, 0 = this one, to some cores.
func pinThread(t *testing.T, id int, set *unix.CPUSet) {
	t.Helper()
	if err := unix.SchedSetaffinity(id, set); err != nil {
		t.Fatalf("pin thread %d: %v", id, err)
	}
}
