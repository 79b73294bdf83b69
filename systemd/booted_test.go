package systemd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// key is what only the service may read.
const key = "sk-or-v1-of-the-test"

// service is llmsup, installed in a box by scripts/install.sh, with the real
// llama-server on the demo model, and an OpenRouter of the test's.
type service struct {
	*box
	url   string
	cloud string // OpenRouter's base URL
	work  string // a folder that the box sees as /built
	llama string // llama-server, as the box sees it
	auth  *sync.Map
}

// with is the service for a part of the test.
func (s *service) with(t *testing.T) *service {
	next := *s
	next.box = s.box.with(t)
	return &next
}

// TestBooted: llmsup as operators have it, under a real systemd. Its parts share
// one boot, in this order.
func TestBooted(t *testing.T) {
	if os.Geteuid() != 0 {
		notRun(t, "it boots a systemd in a container, which needs root: sudo scripts/test.sh ./systemd")
	}
	s := installed(t)
	for _, part := range []struct {
		name string
		run  func(*service)
	}{
		{"it is active, and answers", (*service).active},
		{"the units are in order", (*service).units},
		{"installed again", (*service).again},
		{"the key is the service's alone", (*service).secret},
		{"without a key it starts", (*service).keyless},
		{"reload", (*service).reload},
		{"stopped by SIGSTOP", func(s *service) { s.restarted("STOP", 20*time.Second) }},
		{"killed", func(s *service) { s.restarted("KILL", 10*time.Second) }},
		{"restart under load", (*service).restartUnderLoad},
		{"stopped while it loads", (*service).stopInLoad},
		{"stopped while it streams", (*service).stopInStream},
		{"drained", (*service).drained},
		{"a driver is upgraded", (*service).driver},
		{"stopped while it drains", (*service).stopInDrain},
		{"the machine is booted again", (*service).rebooted},
		{"the port goes with the socket", (*service).stopAll},
		{"uninstalled", (*service).uninstall},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(s.with(t)) }) {
			t.Logf("the journal:\n%s", s.ask("journalctl", "-u", "llmsup.service", "-u", "llmsup.socket", "-n", "60", "--no-pager", "-o", "cat"))
			t.Logf("the status:\n%s", s.ask("systemctl", "status", "llmsup.service", "llmsup.socket", "-n", "0", "--no-pager"))
		}
	}
}

// notRun skips a test that this user can't run, and has scripts/test.sh name it
// in its last lines.
func notRun(t *testing.T, why string) {
	t.Helper()
	if f, err := os.OpenFile(os.Getenv("LLMSUP_TEST_NOT_RUN"), os.O_APPEND|os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(f, "%s: %s\n", t.Name(), why)
		_ = f.Close()
	}
	t.Skip("not run: " + why)
}

// installed boots a box and installs llmsup in it.
func installed(t *testing.T) *service {
	t.Helper()
	llama := os.Getenv("LLMSUP_TEST_LLAMA_SERVER")
	if llama == "" {
		t.Fatal("no llama-server in LLMSUP_TEST_LLAMA_SERVER: run scripts/test.sh, which gets one")
	}
	s := &service{box: &box{t: t}, work: t.TempDir(), auth: &sync.Map{}, llama: "/llama/" + filepath.Base(llama)}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(s.work, "llmsup"), "../cmd/llmsup")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build llmsup: %v: %s", err, out)
	}
	s.makeDemo(llama)
	cloud := httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(cloud.Close)
	s.cloud = cloud.URL + "/api/v1"

	source, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	s.box = bootBox(t, map[string]string{"/src": source, "/built": s.work, "/llama": filepath.Dir(llama)})
	port := freePort(t)
	s.url = "http://127.0.0.1:" + port
	s.write("/etc/systemd/system/llmsup.socket.d/test.conf", "[Socket]\nListenStream=\nListenStream=127.0.0.1:"+port+"\n")
	s.dropIn("test", "[Service]\nWatchdogSec=4s\n")
	s.write("/etc/llmsup/llmsup.yaml", s.config(""))
	s.write("/etc/llmsup/credentials/openrouter", key+"\n")

	if status, out := s.try("setpriv", "--reuid=nobody", "--clear-groups", "/src/scripts/install.sh"); status != 1 || out != "install.sh: this needs root: sudo /src/scripts/install.sh" {
		t.Errorf("without root: exit %d, %q", status, out)
	}
	out := s.must("/src/scripts/install.sh", "--binary", "/built/llmsup")
	t.Log(out)
	if !strings.Contains(out, "upstream openrouter: "+s.cloud+", with a key") || strings.Contains(out, "error ") {
		t.Errorf("llmsup check does not find all in order: %s", out)
	}
	return s
}

// makeDemo has a llmsup of no systemd make the demo model.
func (s *service) makeDemo(llama string) {
	s.t.Helper()
	state := s.t.TempDir()
	cmd := exec.Command(filepath.Join(s.work, "llmsup"), "start", "--demo", "--listen", "127.0.0.1:0", "--llama-server", llama,
		"--state-dir", state, "--control-socket", filepath.Join(s.work, "c"))
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	model := filepath.Join(state, "demo", "demo.gguf")
	s.await("the demo model is made", 20*time.Second, func() bool {
		_, err := os.Stat(model)
		return err == nil
	})
	raw, err := os.ReadFile(model)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err == nil {
		err = os.WriteFile(filepath.Join(s.work, "demo.gguf"), raw, 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) dropIn(name, text string) {
	s.t.Helper()
	s.write("/etc/systemd/system/llmsup.service.d/"+name+".conf", text)
}

// config is a llmsup.yaml whose demo server falls back on the test's cloud.
func (s *service) config(more string) string {
	return `llama_server: ` + s.llama + `
servers:
  demo: {model: /built/demo.gguf}
upstreams:
  openrouter: {base_url: "` + s.cloud + `", api_key_file: "${CREDENTIALS_DIRECTORY}/openrouter"}
routes:
  local/demo: {primary: demo, fallback: openrouter, fallback_model: qwen/demo}
  cloud: {primary: openrouter, primary_model: qwen/demo}
` + more
}

// answer plays OpenRouter. It makes an answer of some length: a word every 100 ms.
func (s *service) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet { // its list of models, for their prices: it has none
		http.NotFound(w, r)
		return
	}
	s.auth.Store(r.Header.Get("Authorization"), true)
	var call struct {
		Stream bool `json:"stream"`
		Max    int  `json:"max_tokens"`
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if !call.Stream {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"g","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"cloud"}}]}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range call.Max {
		fmt.Fprintf(w, "data: {\"id\":\"g\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" w%d\"}}]}\n\n", i)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	fmt.Fprint(w, "data: {\"id\":\"g\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
}

// call makes a call that has to be answered, and returns who answered.
func (s *service) call(transport http.RoundTripper, model string) (backend string, err error) {
	return s.callIn(context.Background(), transport, model)
}

func (s *service) callIn(ctx context.Context, transport http.RoundTripper, model string) (backend string, err error) {
	body := `{"model":"` + model + `","max_tokens":3,"messages":[{"role":"user","content":"count"}]}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	// net/http sends a call again whose connection was closed while nobody used it, if
	// it can have its body anew: then a connection that llmsup closes under a call
	// would not be seen.
	req.GetBody = nil
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return resp.Header.Get("X-Llmsup-Backend"), err
}

// served waits until the demo model answers.
func (s *service) served() {
	s.t.Helper()
	s.await("the demo model answers", 30*time.Second, func() bool {
		backend, err := s.call(http.DefaultTransport, "local/demo")
		return err == nil && backend == "demo"
	})
}

func (s *service) show(unit, property string) string {
	return s.ask("systemctl", "show", "-P", property, unit)
}

// engines are the llama-servers that run in the box.
func (s *service) engines() (pids []string) {
	out := s.ask("sh", "-c", `for p in /proc/[0-9]*; do echo "${p#/proc/} $(tr '\0' ' ' <$p/cmdline)"; done 2>/dev/null`)
	for line := range strings.Lines(out) {
		if pid, command, _ := strings.Cut(line, " "); strings.Contains(command, "--alias demo") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// nothingLeft wants no process of the service's to be there.
func (s *service) nothingLeft() {
	s.t.Helper()
	if pids := s.engines(); len(pids) > 0 {
		s.t.Errorf("llama-servers %v are left", pids)
	}
	if pids := s.ask("sh", "-c", "cat /sys/fs/cgroup/system.slice/llmsup.service/cgroup.procs 2>/dev/null"); pids != "" {
		s.t.Errorf("processes %q of the service are left", pids)
	}
}

func (s *service) active() {
	s.served()
	for property, want := range map[string]string{"ActiveState": "active", "SubState": "running", "NRestarts": "0", "User": "llmsup", "Result": "success"} {
		if got := s.show("llmsup.service", property); got != want {
			s.t.Errorf("%s is %q, want %q", property, got, want)
		}
	}
	if status := s.show("llmsup.service", "StatusText"); status != "demo ready" {
		s.t.Errorf("the status line is %q", status)
	}
	if pids := s.engines(); len(pids) != 1 {
		s.t.Errorf("llama-servers %v run; want one", pids)
	}
	if out := s.must("llmsup", "status"); !strings.Contains(out, s.url) {
		s.t.Errorf("llmsup status: %s", out)
	}
}

func (s *service) units() {
	if out := s.must("systemd-analyze", "verify", "llmsup.service", "llmsup.socket"); out != "" {
		s.t.Errorf("systemd-analyze verify: %s", out)
	}
	out := s.must("systemd-analyze", "security", "--offline=true", "--no-pager", "/src/systemd/llmsup.service")
	m := regexp.MustCompile(`exposure level for llmsup.service: (\d+\.\d+)`).FindStringSubmatch(out)
	if m == nil {
		s.t.Fatalf("systemd-analyze security: %s", out)
	}
	if level, _ := strconv.ParseFloat(m[1], 64); level > 2.5 {
		s.t.Errorf("its exposure level is %s, over 2.5: %s", m[1], out)
	}
	// GPUs are all that it may have beyond what every process has.
	devices := strings.Fields(strings.ReplaceAll(s.show("llmsup.service", "DeviceAllow"), " ", "="))
	slices.Sort(devices)
	if policy := s.show("llmsup.service", "DevicePolicy"); policy != "closed" || !slices.Equal(devices, []string{"char-nvidia*=rw", "char-nvidia=rw", "char-rtc=r"}) {
		s.t.Errorf("its devices are %q, policy %s", devices, policy)
	}
}

// again: a second run changes nothing that an operator has edited, and fails no
// call.
func (s *service) again() {
	before := s.must("cat", "/etc/llmsup/llmsup.yaml")
	s.must("/src/scripts/install.sh", "--binary", "/built/llmsup")
	if s.must("cat", "/etc/llmsup/llmsup.yaml") != before {
		s.t.Error("the edited configuration is another one")
	}
	s.must("cmp", "/src/systemd/llmsup.yaml", "/etc/llmsup/llmsup.yaml.example")
	for _, file := range []string{"/usr/share/bash-completion/completions/llmsup", "/usr/local/share/man/man1/llmsup.1"} {
		s.must("test", "-s", file)
	}
	out := s.must("bash", "-c", `. /usr/share/bash-completion/bash_completion; _comp_load llmsup 2>/dev/null || _completion_loader llmsup; complete -p llmsup`)
	if !strings.Contains(out, "_llmsup") {
		s.t.Errorf("bash has for llmsup %q", out)
	}
	s.served()
}

// secret: the key reaches OpenRouter, and nobody but the service can read it.
func (s *service) secret() {
	if _, err := s.call(http.DefaultTransport, "cloud"); err != nil {
		s.t.Fatal(err)
	}
	if _, sent := s.auth.Load("Bearer " + key); !sent {
		s.t.Error("OpenRouter was not sent the key")
	}
	for _, user := range []string{"nobody", "llmsup"} {
		for _, file := range []string{"/etc/llmsup/credentials/openrouter", "/run/credentials/llmsup.service/openrouter"} {
			if user == "llmsup" && strings.HasPrefix(file, "/run") {
				continue // it is the service's user
			}
			if status, _ := s.try("setpriv", "--reuid="+user, "--clear-groups", "cat", file); status == 0 {
				s.t.Errorf("%s can read %s", user, file)
			}
		}
	}
	s.must("cat", "/run/credentials/llmsup.service/openrouter") // it is there that it would be read
	for _, pid := range append(s.engines(), s.show("llmsup.service", "MainPID")) {
		for _, file := range []string{"environ", "cmdline"} {
			if text := s.ask("cat", "/proc/"+pid+"/"+file); strings.Contains(text, key) {
				s.t.Errorf("the key stands in %s of process %s", file, pid)
			}
		}
	}
	for _, pid := range s.engines() {
		if text := s.ask("cat", "/proc/"+pid+"/environ"); strings.Contains(text, "CREDENTIALS_DIRECTORY") || strings.Contains(text, "NOTIFY_SOCKET") || strings.Contains(text, "LISTEN_FDS") {
			s.t.Error("llama-server has in its environment what systemd gave to llmsup alone")
		}
	}
	s.unsaid()
}

func (s *service) unsaid() {
	s.t.Helper()
	if strings.Contains(s.ask("journalctl", "-u", "llmsup.service", "--no-pager"), key) {
		s.t.Error("the key stands in the journal")
	}
}

// keyless: a credential whose file is missing keeps nothing from starting.
func (s *service) keyless() {
	s.must("mv", "/etc/llmsup/credentials/openrouter", "/etc/llmsup/kept")
	s.must("systemctl", "restart", "llmsup.service")
	s.served()
	if _, err := s.call(http.DefaultTransport, "cloud"); err == nil || !strings.Contains(err.Error(), "503") {
		s.t.Errorf("a call for the cloud: %v; want a 503", err)
	}
	s.must("mv", "/etc/llmsup/kept", "/etc/llmsup/credentials/openrouter")
	s.must("systemctl", "restart", "llmsup.service")
	s.served()
}

func (s *service) reload() {
	pid := s.show("llmsup.service", "MainPID")
	s.write("/etc/llmsup/llmsup.yaml", s.config("  reloaded: {primary: demo}\n"))
	s.must("systemctl", "reload", "llmsup.service")
	if _, err := s.call(http.DefaultTransport, "reloaded"); err != nil { // as soon as systemctl returns
		s.t.Errorf("the new route: %v", err)
	}
	s.write("/etc/llmsup/llmsup.yaml", s.config("nonsense: 1\n"))
	s.try("systemctl", "reload", "llmsup.service")
	s.await("the status line tells of the refusal", 5*time.Second, func() bool {
		return strings.Contains(s.show("llmsup.service", "StatusText"), "the last reload was refused: /etc/llmsup/llmsup.yaml:9: unknown key \"nonsense\"")
	})
	if _, err := s.call(http.DefaultTransport, "reloaded"); err != nil {
		s.t.Errorf("the old route, after a wrong configuration: %v", err)
	}
	if status, out := s.try("llmsup", "reload"); status != 1 || !strings.Contains(out, "llmsup.yaml:9") {
		s.t.Errorf("llmsup reload: exit %d, %s", status, out)
	}
	s.write("/etc/llmsup/llmsup.yaml", s.config(""))
	s.must("systemctl", "reload", "llmsup.service")
	s.await("the status line is as before", 5*time.Second, func() bool { return s.show("llmsup.service", "StatusText") == "demo ready" })
	if now := s.show("llmsup.service", "MainPID"); now != pid || s.show("llmsup.service", "ActiveState") != "active" {
		s.t.Errorf("it is another process, %s and not %s", now, pid)
	}
}

// restarted: llmsup gets a signal after which it does nothing any more, and is
// started again, with one llama-server. Callers wait.
func (s *service) restarted(signal string, within time.Duration) {
	s.served()
	before, pid, engines := s.show("llmsup.service", "NRestarts"), s.show("llmsup.service", "MainPID"), s.engines()
	s.must("sh", "-c", "kill -"+signal+" "+pid)
	began := time.Now()
	transport := &http.Transport{DisableKeepAlives: true}
	if _, err := s.call(transport, "local/demo"); err != nil {
		s.t.Errorf("a call in the meantime: %v", err)
	}
	s.t.Logf("a call in the meantime was answered after %.1f s", time.Since(began).Seconds())
	s.await("systemd has started it again", within, func() bool {
		return s.show("llmsup.service", "NRestarts") != before && s.show("llmsup.service", "ActiveState") == "active"
	})
	s.served()
	now := s.engines()
	if len(now) != 1 || len(engines) != 1 || now[0] == engines[0] {
		s.t.Errorf("llama-servers %v run, before %v; want one, another one", now, engines)
	}
	s.unsaid() // the watchdog has Go write down what it was at
	if s.ask("sh", "-c", "kill -0 "+pid+" 2>/dev/null && echo alive") != "" {
		s.t.Errorf("the old llmsup, %s, is still there", pid)
	}
}

// restartUnderLoad: callers with a new connection for each call, callers that
// share some, and callers whose connection rests for seconds between two calls. No
// call fails, and none is made twice.
func (s *service) restartUnderLoad() {
	s.served()
	restarts := 5
	if n, err := strconv.Atoi(os.Getenv("LLMSUP_TEST_RESTARTS")); err == nil {
		restarts = n
	}
	ctx, cancel := context.WithCancel(context.Background())
	var calls, longest, onKept, afterRest atomic.Int64
	var callers sync.WaitGroup
	call := func(who string, transport http.RoundTripper) {
		began := time.Now()
		var conn httptrace.GotConnInfo
		traced := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { conn = got }})
		if _, err := s.callIn(traced, transport, "local/demo"); err != nil {
			s.t.Errorf("a call of %s: %v, after %s; its connection was reused: %t, after a rest of %s", who, err, time.Since(began), conn.Reused, conn.IdleTime)
		}
		calls.Add(1)
		if conn.Reused {
			onKept.Add(1)
		}
		if conn.IdleTime > time.Second {
			afterRest.Add(1)
		}
		for took, most := int64(time.Since(began)), longest.Load(); took > most && !longest.CompareAndSwap(most, took); most = longest.Load() {
		}
	}
	kept, fresh := &http.Transport{MaxIdleConnsPerHost: 20}, &http.Transport{DisableKeepAlives: true}
	defer kept.CloseIdleConnections()
	callers.Go(func() {
		tick := time.NewTicker(time.Second / 50)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			<-tick.C
			callers.Go(func() {
				if i%2 == 0 {
					call("many, each on a connection of its own", fresh)
				} else {
					call("many that share connections", kept)
				}
			})
		}
	})
	for range 40 {
		callers.Go(func() {
			own := &http.Transport{}
			defer own.CloseIdleConnections()
			for ctx.Err() == nil {
				call("one that rests", own)
				select {
				case <-ctx.Done():
				case <-time.After(rand.N(8 * time.Second)): // it may be longer than connections are lingered for
				}
			}
		})
	}
	for range restarts {
		before := calls.Load()
		s.await("50 calls are made", 20*time.Second, func() bool { return calls.Load() >= before+50 })
		s.must("systemctl", "restart", "llmsup.service")
	}
	before := calls.Load()
	s.await("50 calls are made", 20*time.Second, func() bool { return calls.Load() >= before+50 })
	cancel()
	callers.Wait()
	s.t.Logf("%d calls, %d on a kept connection, %d of them after a rest of over a second; %d restarts; the longest call took %.1f s",
		calls.Load(), onKept.Load(), afterRest.Load(), restarts, time.Duration(longest.Load()).Seconds())
}

// stop stops the service and wants it to be gone, in its own time.
func (s *service) stop(within time.Duration) {
	s.t.Helper()
	began := time.Now()
	s.must("systemctl", "stop", "llmsup.service")
	s.t.Logf("stopped after %.1f s", time.Since(began).Seconds())
	if took := time.Since(began); took > within {
		s.t.Errorf("the stop took %s", took)
	}
	for property, want := range map[string]string{"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"} {
		if got := s.show("llmsup.service", property); got != want {
			s.t.Errorf("%s is %q, want %q", property, got, want)
		}
	}
	s.nothingLeft()
}

// stopInLoad: a llama-server that loads for ever, and does not hear SIGTERM.
func (s *service) stopInLoad() {
	s.write("/opt/loads", `#!/bin/sh
case $1 in --help | --version) exec /llama/llama-server "$@" ;; esac
trap '' TERM
while :; do echo loading; sleep 0.2; done
`)
	s.must("chmod", "755", "/opt/loads")
	s.dropIn("zloads", "[Service]\nEnvironment=LLMSUP_LLAMA_SERVER=/opt/loads\n")
	s.must("systemctl", "daemon-reload")
	s.must("systemctl", "restart", "llmsup.service")
	s.await("it loads", 20*time.Second, func() bool { return s.show("llmsup.service", "StatusText") == "demo loading" })
	s.stop(20 * time.Second)
	s.must("rm", "/etc/systemd/system/llmsup.service.d/zloads.conf")
	s.must("systemctl", "daemon-reload")
	s.must("systemctl", "start", "llmsup.service")
	s.served()
}

// stopInStream: a stream that ends within the grace ends whole; one that does
// not is cut, and the stop does not wait for it any longer.
func (s *service) stopInStream() {
	short, shortEnd := s.stream("cloud", 50)
	long, longEnd := s.stream("cloud", 100_000)
	<-short
	<-long
	s.stop(50 * time.Second)
	if text := <-shortEnd; !strings.Contains(text, " w49") || !strings.HasSuffix(text, "data: [DONE]\n\n") {
		s.t.Errorf("the short stream ends with %q", text[max(0, len(text)-200):])
	}
	if text := <-longEnd; strings.Contains(text, "[DONE]") {
		s.t.Errorf("the long stream ends as if it were whole: %q", text[max(0, len(text)-200):])
	}
	s.must("systemctl", "start", "llmsup.service")
	s.served()
}

// stream begins a stream; begun is closed when it has content.
func (s *service) stream(model string, tokens int) (begun chan struct{}, end chan string) {
	begun, end = make(chan struct{}), make(chan string, 1)
	go func() {
		body := fmt.Sprintf(`{"model":%q,"stream":true,"max_tokens":%d,"messages":[{"role":"user","content":"x"}]}`, model, tokens)
		resp, err := http.Post(s.url+"/v1/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			close(begun)
			end <- err.Error()
			return
		}
		defer resp.Body.Close()
		reader := bufio.NewReader(resp.Body)
		first, _ := reader.ReadString('\n')
		close(begun)
		rest, _ := io.ReadAll(reader)
		end <- first + string(rest)
	}()
	return begun, end
}

// wantDrained wants calls to be answered elsewhere, and no llama-server.
func (s *service) wantDrained(after string) {
	s.t.Helper()
	if status := s.show("llmsup.service", "StatusText"); !strings.HasPrefix(status, "demo drained") {
		s.t.Errorf("after %s the status line is %q", after, status)
	}
	if backend, err := s.call(http.DefaultTransport, "local/demo"); err != nil || backend != "openrouter" {
		s.t.Errorf("after %s a call is answered by %q, %v", after, backend, err)
	}
	if pids := s.engines(); len(pids) > 0 {
		s.t.Errorf("after %s llama-servers %v run", after, pids)
	}
}

// drained: a drain outlives a restart, and a crash.
func (s *service) drained() {
	s.must("llmsup", "drain", "--yes")
	s.wantDrained("the drain")
	s.must("systemctl", "restart", "llmsup.service")
	s.wantDrained("a restart")
	before := s.show("llmsup.service", "NRestarts")
	s.must("sh", "-c", "kill -KILL "+s.show("llmsup.service", "MainPID"))
	s.await("systemd has started it again", 10*time.Second, func() bool {
		return s.show("llmsup.service", "NRestarts") != before && s.show("llmsup.service", "ActiveState") == "active"
	})
	s.wantDrained("a crash")
	s.must("llmsup", "resume")
	if backend, err := s.call(http.DefaultTransport, "local/demo"); err != nil || backend != "demo" {
		s.t.Errorf("after the resume a call is answered by %q, %v", backend, err)
	}
}

// driver: apt drains before it unpacks a driver, and not for other packages.
func (s *service) driver() {
	s.must("cp", "/src/systemd/apt-drain.conf", "/etc/apt/apt.conf.d/50llmsup")
	for _, name := range []string{"not-nvidia", "nvidia-driver-test"} {
		s.write("/tmp/"+name+"/DEBIAN/control", "Package: "+name+"\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: nothing\n")
		s.must("dpkg-deb", "--build", "/tmp/"+name, "/tmp/"+name+"_1_all.deb")
		s.must("apt-get", "install", "--yes", "/tmp/"+name+"_1_all.deb")
		if drained := len(s.engines()) == 0; drained != (name == "nvidia-driver-test") {
			s.t.Errorf("after the installation of %s: drained is %v", name, drained)
		}
	}
	s.must("rm", "/etc/apt/apt.conf.d/50llmsup")
	s.wantDrained("a driver's upgrade")
	s.must("systemctl", "restart", "llmsup.service")
	s.must("llmsup", "resume")
	s.served()
}

// stopInDrain: a drain waits for a call that does not end, since llama-server
// does nothing any more; a stop waits for neither.
func (s *service) stopInDrain() {
	begun, end := s.stream("local/demo", 8000)
	<-begun
	s.must("sh", "-c", "kill -STOP "+strings.Join(s.engines(), " "))
	drain := s.command("llmsup", "drain", "--yes")
	if err := drain.Start(); err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = drain.Wait() }()
	s.await("it drains", 10*time.Second, func() bool {
		return strings.HasPrefix(s.show("llmsup.service", "StatusText"), "demo draining")
	})
	s.stop(55 * time.Second)
	if text := <-end; strings.Contains(text, "[DONE]") {
		s.t.Errorf("the stream ends as if it were whole: %q", text[max(0, len(text)-200):])
	}
	s.must("systemctl", "start", "llmsup.service")
	s.wantDrained("a stop")
	s.must("llmsup", "resume")
	s.served()
}

// rebooted: a drain outlives a reboot, also one that comes in the midst of it, and
// a power cut. One that has an end has it after them too.
func (s *service) rebooted() {
	s.write("/etc/llmsup/llmsup.yaml", s.config("shutdown_grace: 2s\n"))
	s.must("systemctl", "reload", "llmsup.service")
	begun, end := s.stream("local/demo", 8000)
	<-begun
	s.must("sh", "-c", "kill -STOP "+strings.Join(s.engines(), " ")) // so that the drain has not ended
	drain := s.command("llmsup", "drain", "--yes")
	if err := drain.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.await("it drains", 10*time.Second, func() bool {
		return strings.HasPrefix(s.show("llmsup.service", "StatusText"), "demo draining")
	})
	s.reboot()
	_ = drain.Wait() // it has gone with the machine
	if text := <-end; strings.Contains(text, "[DONE]") {
		s.t.Errorf("the stream ends as if it were whole: %q", text[max(0, len(text)-200):])
	}
	s.up()
	s.wantDrained("a reboot")
	if out := s.must("llmsup", "status", "--json"); !strings.Contains(out, `"until":null,"keep_server":false}`) {
		s.t.Errorf("llmsup status: %s", out)
	}
	s.must("llmsup", "resume")
	s.served()

	s.must("llmsup", "drain", "--yes", "--for", "2h")
	before := s.until()
	s.cutPower()
	s.boot()
	s.up()
	s.wantDrained("a power cut")
	if now := s.until(); now != before || now == "" {
		s.t.Errorf("it ends at %q, before at %q", now, before)
	}
	s.must("llmsup", "resume")
	s.served()

	s.must("llmsup", "drain", "--yes", "--for", "15s")
	s.reboot()
	s.up()
	s.served() // by itself
	s.must("llmsup", "drain", "--yes", "--for", "1s")
	s.reboot()
	s.up()
	s.served() // its time was over when it came up
	s.write("/etc/llmsup/llmsup.yaml", s.config(""))
	s.must("systemctl", "reload", "llmsup.service")
}

// up waits until the service is.
func (s *service) up() {
	s.t.Helper()
	s.await("the service is active", 60*time.Second, func() bool { return s.show("llmsup.service", "ActiveState") == "active" })
}

// until is when the drain ends by itself; "" = never.
func (s *service) until() string {
	s.t.Helper()
	m := regexp.MustCompile(`"drain":\{"since":"[^"]+","until":"([^"]+)"`).FindStringSubmatch(s.must("llmsup", "status", "--json"))
	if m == nil {
		return ""
	}
	return m[1]
}

func (s *service) stopAll() {
	s.must("systemctl", "stop", "llmsup.socket")
	if state := s.show("llmsup.service", "ActiveState"); state != "inactive" {
		s.t.Errorf("the service is %s", state)
	}
	if _, err := s.call(&http.Transport{DisableKeepAlives: true}, "local/demo"); err == nil {
		s.t.Error("a call is answered")
	}
	s.nothingLeft()
	s.must("systemctl", "start", "llmsup.socket")
	s.served() // a call starts it
}

func (s *service) uninstall() {
	s.must("/src/scripts/install.sh", "--uninstall")
	s.nothingLeft()
	for _, gone := range []string{"/usr/local/bin/llmsup", "/etc/systemd/system/llmsup.service", "/run/llmsup"} {
		s.must("test", "!", "-e", gone)
	}
	s.must("test", "-s", "/etc/llmsup/llmsup.yaml", "-a", "-d", "/var/lib/llmsup/servers")
	s.must("/src/scripts/install.sh", "--uninstall", "--purge")
	out := s.must("find", "/etc", "/usr", "/var/lib", "/run", "-name", "*llmsup*", "-not", "-path", "/run/systemd/*", "-not", "-path", "/run/log/*")
	if out != "" {
		s.t.Errorf("left after the purge: %s", out)
	}
	if status, _ := s.try("getent", "passwd", "llmsup"); status == 0 {
		s.t.Error("the user is still there")
	}
}
