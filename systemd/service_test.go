package systemd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// key is the API key of OpenRouter, which only the service may read.
const key = "sk-or-v1-of-the-test"

// service is llmsup, installed in a container by scripts/install.sh, with the real
// llama-server on the demo model and a fake OpenRouter.
type service struct {
	*container
	url   string
	cloud string // OpenRouter's base URL
	work  string // the folder that is /built in the container
	llama string // the path of llama-server in the container
	token string // the client key of calls; empty = none

	engineRoot string // on the host, of a llama-server that scripts/llama-server.sh made
	auth       *sync.Map
}

// with returns the service for a subtest.
func (s *service) with(t *testing.T) *service {
	next := *s
	next.container = s.container.with(t)
	return &next
}

// TestService: llmsup as operators run it, under a real systemd. The subtests share one
// container, in this order.
func TestService(t *testing.T) {
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
		{"installed again", (*service).reinstall},
		{"what is not llmsup is not installed", (*service).notLlmsup},
		{"an older systemd", (*service).olderSystemd},
		{"a llama-server for the service", (*service).engine},
		{"a model and a llama-server in a home", (*service).homes},
		{"these in an image", (*service).image},
		{"a broken configuration", (*service).backsOff},
		{"the key is the service's alone", (*service).secret},
		{"who may operate it", (*service).operators},
		{"without a key it starts", (*service).keyless},
		{"reload", (*service).reload},
		{"stopped by SIGSTOP", func(s *service) { s.restarted("STOP") }},
		{"killed", func(s *service) { s.restarted("KILL") }},
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

// notRun skips a test that this user or host cannot run, and makes scripts/test.sh list it
// in its last lines.
func notRun(t *testing.T, why string) {
	t.Helper()
	if f, err := os.OpenFile(os.Getenv("LLMSUP_TEST_NOT_RUN"), os.O_APPEND|os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(f, "%s: %s\n", t.Name(), why)
		_ = f.Close()
	}
	t.Skip("not run: " + why)
}

// installed boots a container and installs llmsup in it.
func installed(t *testing.T) *service {
	t.Helper()
	s := bootForService(t, "stable")
	s.write("/etc/llmsup/llmsup.yaml", s.config(""))
	s.write("/etc/llmsup/credentials/openrouter", key+"\n")

	if status, out := s.try("setpriv", "--reuid=nobody", "--clear-groups", "/src/scripts/install.sh"); status != 1 || out != "install.sh: this needs root: sudo /src/scripts/install.sh" {
		t.Errorf("without root: exit %d, %q", status, out)
	}
	out := s.must("/src/scripts/install.sh", "--binary", "/built/llmsup")
	t.Log(out)
	if !strings.Contains(out, "upstream openrouter: "+s.cloud+", with an API key") || strings.Contains(out, "error ") {
		t.Errorf("llmsup check reports a problem: %s", out)
	}
	return s
}

// bootForService boots a container of a Debian suite for llmsup, and builds what is
// installed in it.
func bootForService(t *testing.T, suite string) *service {
	t.Helper()
	llama := os.Getenv("LLMSUP_TEST_LLAMA_SERVER")
	if llama == "" {
		t.Fatal("no llama-server in LLMSUP_TEST_LLAMA_SERVER: run scripts/test.sh, which gets one")
	}
	s := &service{container: &container{t: t}, work: t.TempDir(), auth: &sync.Map{}, llama: "/llama/" + filepath.Base(llama), engineRoot: filepath.Join(filepath.Dir(llama), "root")}
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
	s.container = bootContainer(t, suite, map[string]string{"/src": source, "/built": s.work, "/llama": filepath.Dir(llama)})
	port := freePort(t)
	s.url = "http://127.0.0.1:" + port
	s.listenOn(port)
	s.dropIn("test", "[Service]\nWatchdogSec=4s\nEnvironment=LLAMA_ARG_THREADS=1\n")
	return s
}

// listenOn gives the socket a port of the host that is free.
func (s *service) listenOn(port string) {
	s.t.Helper()
	s.write("/etc/systemd/system/llmsup.socket.d/test.conf", "[Socket]\nListenStream=\nListenStream=127.0.0.1:"+port+"\n")
}

// makeDemo generates the demo model, with a llmsup outside of the container.
func (s *service) makeDemo(llama string) {
	s.t.Helper()
	state := s.t.TempDir()
	cmd := exec.Command(filepath.Join(s.work, "llmsup"), "start", "--demo", "--listen", "127.0.0.1:0", "--llama-server", llama,
		"--state-dir", state, "--control-socket", filepath.Join(s.work, "c"))
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	model := filepath.Join(state, "demo", "demo.gguf")
	s.await("the demo model is generated", func() bool {
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

// grace is how long calls may run after the service is stopped.
func (s *service) grace() time.Duration {
	if realTimes {
		return 30 * time.Second
	}
	return 10 * time.Second
}

func (s *service) dropIn(name, text string) {
	s.t.Helper()
	s.write("/etc/systemd/system/llmsup.service.d/"+name+".conf", text)
}

// config returns a llmsup.yaml whose demo server has the fake OpenRouter as its fallback.
func (s *service) config(more string) string {
	grace := "shutdown_grace: " + s.grace().String()
	if realTimes || strings.Contains(more, "shutdown_grace:") {
		grace = "# shutdown_grace: 30s"
	}
	return grace + `
llama_server: ` + s.llama + `
servers:
  demo: {model: /built/demo.gguf}
upstreams:
  openrouter: {base_url: "` + s.cloud + `", api_key_file: "${CREDENTIALS_DIRECTORY}/openrouter"}
routes:
  local/demo: {primary: demo, fallback: openrouter, fallback_model: qwen/demo}
  cloud: {primary: openrouter, primary_model: qwen/demo}
` + more
}

// answer answers as OpenRouter. A stream has a word every 100 ms.
func (s *service) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet { // it has no list of models
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

// newConnections makes a connection for each call. An idle connection would delay each
// stop of llmsup by some seconds; restartUnderLoad has such connections.
var newConnections = &http.Transport{DisableKeepAlives: true}

// realTimes uses the default times of the service. Shorter times take half as long.
var realTimes = os.Getenv("LLMSUP_TEST_REAL_TIMES") != ""

// call makes a call and returns the backend that answered.
func (s *service) call(transport http.RoundTripper, model string) (backend string, err error) {
	return s.callIn(context.Background(), transport, model)
}

func (s *service) callIn(ctx context.Context, transport http.RoundTripper, model string) (backend string, err error) {
	body := `{"model":"` + model + `","max_tokens":3,"messages":[{"role":"user","content":"count"}]}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	// With GetBody, net/http repeats a call on a closed idle connection, which would hide
	// that llmsup closed a connection with a call on it.
	req.GetBody = nil
	req.Header.Set("Content-Type", "application/json")
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
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

// awaitServed waits until the demo model answers a call.
func (s *service) awaitServed() {
	s.t.Helper()
	s.await("the demo model answers", func() bool {
		backend, err := s.call(newConnections, "local/demo")
		return err == nil && backend == "demo"
	})
}

func (s *service) show(unit, property string) string {
	return s.ask("systemctl", "show", "-P", property, unit)
}

// engines returns the pids of the llama-servers in the container.
func (s *service) engines() (pids []string) {
	out := s.ask("sh", "-c", `for p in /proc/[0-9]*; do echo "${p#/proc/} $(tr '\0' ' ' <$p/cmdline)"; done 2>/dev/null`)
	for line := range strings.Lines(out) {
		if pid, command, _ := strings.Cut(line, " "); strings.Contains(command, "--alias demo") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// wantNoProcess checks that the service has no process.
func (s *service) wantNoProcess() {
	s.t.Helper()
	if pids := s.engines(); len(pids) > 0 {
		s.t.Errorf("llama-servers %v still run", pids)
	}
	if pids := s.ask("sh", "-c", "cat /sys/fs/cgroup/system.slice/llmsup.service/cgroup.procs 2>/dev/null"); pids != "" {
		s.t.Errorf("processes %q of the service still run", pids)
	}
}

func (s *service) active() {
	s.awaitServed()
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
	// The service may only use GPUs, and the devices that every process may use.
	devices := strings.Fields(strings.ReplaceAll(s.show("llmsup.service", "DeviceAllow"), " ", "="))
	slices.Sort(devices)
	if policy := s.show("llmsup.service", "DevicePolicy"); policy != "closed" || !slices.Equal(devices, []string{"char-drm=rw", "char-nvidia*=rw", "char-nvidia=rw", "char-rtc=r"}) {
		s.t.Errorf("its devices are %q, policy %s", devices, policy)
	}
}

// reinstall: a second run of install.sh keeps the edited configuration.
func (s *service) reinstall() {
	before := s.must("cat", "/etc/llmsup/llmsup.yaml")
	s.must("/src/scripts/install.sh", "--binary", "/built/llmsup")
	if s.must("cat", "/etc/llmsup/llmsup.yaml") != before {
		s.t.Error("the edited configuration was changed")
	}
	s.must("cmp", "/src/systemd/llmsup.yaml.example", "/etc/llmsup/llmsup.yaml.example")
	for _, file := range []string{"/usr/share/bash-completion/completions/llmsup", "/usr/local/share/man/man1/llmsup.1"} {
		s.must("test", "-s", file)
	}
	out := s.must("bash", "-c", `. /usr/share/bash-completion/bash_completion; _comp_load llmsup 2>/dev/null || _completion_loader llmsup; complete -p llmsup`)
	if !strings.Contains(out, "_llmsup") {
		s.t.Errorf("bash has for llmsup %q", out)
	}
	s.awaitServed()
}

// secret: the key reaches OpenRouter, and only the service can read it.
func (s *service) secret() {
	if _, err := s.call(newConnections, "cloud"); err != nil {
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
	s.must("cat", "/run/credentials/llmsup.service/openrouter") // root can: the file exists
	for _, pid := range append(s.engines(), s.show("llmsup.service", "MainPID")) {
		for _, file := range []string{"environ", "cmdline"} {
			if text := s.ask("cat", "/proc/"+pid+"/"+file); strings.Contains(text, key) {
				s.t.Errorf("the key is in %s of process %s", file, pid)
			}
		}
	}
	for _, pid := range s.engines() {
		if text := s.ask("cat", "/proc/"+pid+"/environ"); strings.Contains(text, "CREDENTIALS_DIRECTORY") || strings.Contains(text, "NOTIFY_SOCKET") || strings.Contains(text, "LISTEN_FDS") {
			s.t.Error("llama-server has variables in its environment that systemd set for llmsup")
		}
	}
	s.wantKeyNotLogged()
}

// operators: members of the group llmsup may operate the daemon but cannot read the key;
// other users cannot open the control socket.
func (s *service) operators() {
	s.must("useradd", "--no-create-home", "--groups", "llmsup", "olga")
	as := func(user string, args ...string) (status int, out string) {
		return s.try(append([]string{"setpriv", "--reuid=" + user, "--regid=nogroup", "--init-groups"}, args...)...)
	}
	for _, args := range [][]string{{"status"}, {"reload"}, {"logs"}} {
		if status, out := as("olga", append([]string{"llmsup"}, args...)...); status != 0 {
			s.t.Errorf("llmsup %s of an operator: exit %d, %s", args[0], status, out)
		}
		if status, out := as("nobody", append([]string{"llmsup"}, args...)...); status != 3 || !strings.Contains(out, "this user has no access to /run/llmsup/control.sock") {
			s.t.Errorf("llmsup %s of nobody: exit %d, %s", args[0], status, out)
		}
	}
	for _, file := range []string{"/etc/llmsup/credentials/openrouter", "/run/credentials/llmsup.service/openrouter"} {
		if status, _ := as("olga", "cat", file); status == 0 {
			s.t.Errorf("an operator can read %s", file)
		}
	}
	if status, _ := as("olga", "sh", "-c", "echo >>/etc/llmsup/llmsup.yaml"); status == 0 {
		s.t.Error("an operator can write to the configuration")
	}
	s.must("userdel", "olga")
}

func (s *service) wantKeyNotLogged() {
	s.t.Helper()
	if strings.Contains(s.ask("journalctl", "-u", "llmsup.service", "--no-pager"), key) {
		s.t.Error("the key is in the journal")
	}
}

// keyless: llmsup starts without the file of the credential.
func (s *service) keyless() {
	s.must("mv", "/etc/llmsup/credentials/openrouter", "/etc/llmsup/kept")
	s.must("systemctl", "restart", "llmsup.service")
	s.awaitServed()
	if _, err := s.call(newConnections, "cloud"); err == nil || !strings.Contains(err.Error(), "503") {
		s.t.Errorf("a call for the cloud: %v; want a 503", err)
	}
	s.must("mv", "/etc/llmsup/kept", "/etc/llmsup/credentials/openrouter")
	s.must("systemctl", "restart", "llmsup.service")
	s.awaitServed()
}

func (s *service) reload() {
	pid := s.show("llmsup.service", "MainPID")
	s.write("/etc/llmsup/llmsup.yaml", s.config("  reloaded: {primary: demo}\n"))
	s.must("systemctl", "reload", "llmsup.service")
	if _, err := s.call(newConnections, "reloaded"); err != nil { // as soon as systemctl returns
		s.t.Errorf("the new route: %v", err)
	}
	s.write("/etc/llmsup/llmsup.yaml", s.config("nonsense: 1\n"))
	s.try("systemctl", "reload", "llmsup.service")
	s.await("the status line shows the rejected reload", func() bool {
		return strings.Contains(s.show("llmsup.service", "StatusText"), "the last reload was refused: /etc/llmsup/llmsup.yaml:10: unknown key \"nonsense\"")
	})
	if _, err := s.call(newConnections, "reloaded"); err != nil {
		s.t.Errorf("the old route, after a wrong configuration: %v", err)
	}
	if status, out := s.try("llmsup", "reload"); status != 1 || !strings.Contains(out, "llmsup.yaml:10") {
		s.t.Errorf("llmsup reload: exit %d, %s", status, out)
	}
	s.write("/etc/llmsup/llmsup.yaml", s.config(""))
	s.must("systemctl", "reload", "llmsup.service")
	s.await("the status line shows the server again", func() bool { return s.show("llmsup.service", "StatusText") == "demo ready" })
	if now := s.show("llmsup.service", "MainPID"); now != pid || s.show("llmsup.service", "ActiveState") != "active" {
		s.t.Errorf("llmsup was restarted: process %s, before it was %s", now, pid)
	}
}

func (s *service) uninstall() {
	s.must("/src/scripts/install.sh", "--uninstall")
	s.wantNoProcess()
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
		s.t.Error("the user still exists")
	}
}
