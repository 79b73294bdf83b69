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

	engineRoot string // out here, of a llama-server that scripts/llama-server.sh made
	auth       *sync.Map
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
	s := &service{box: &box{t: t}, work: t.TempDir(), auth: &sync.Map{}, llama: "/llama/" + filepath.Base(llama), engineRoot: filepath.Join(filepath.Dir(llama), "root")}
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
	s.dropIn("test", "[Service]\nWatchdogSec=4s\nEnvironment=LLAMA_ARG_THREADS=1\n")
	s.write("/etc/llmsup/llmsup.yaml", s.config(""))
	s.write("/etc/llmsup/credentials/openrouter", key+"\n")

	if status, out := s.try("setpriv", "--reuid=nobody", "--clear-groups", "/src/scripts/install.sh"); status != 1 || out != "install.sh: this needs root: sudo /src/scripts/install.sh" {
		t.Errorf("without root: exit %d, %q", status, out)
	}
	out := s.must("/src/scripts/install.sh", "--binary", "/built/llmsup")
	t.Log(out)
	if !strings.Contains(out, "upstream openrouter: "+s.cloud+", with an API key") || strings.Contains(out, "error ") {
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

// grace is how long calls may run on when the service is stopped.
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

// config is a llmsup.yaml whose demo server falls back on the test's cloud.
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

// fresh makes a connection for each call. One that rests would have each stop of
// llmsup take some seconds (restartUnderLoad has such).
var fresh = &http.Transport{DisableKeepAlives: true}

// realTimes keeps the times that operators have: with shorter ones the whole is done
// in half of the time.
var realTimes = os.Getenv("LLMSUP_TEST_REAL_TIMES") != ""

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
		backend, err := s.call(fresh, "local/demo")
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
	s.must("cmp", "/src/systemd/llmsup.yaml.example", "/etc/llmsup/llmsup.yaml.example")
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
	if _, err := s.call(fresh, "cloud"); err != nil {
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

// operators: members of the group llmsup may give it orders, and read no key;
// others may not even ask.
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
	if _, err := s.call(fresh, "cloud"); err == nil || !strings.Contains(err.Error(), "503") {
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
	if _, err := s.call(fresh, "reloaded"); err != nil { // as soon as systemctl returns
		s.t.Errorf("the new route: %v", err)
	}
	s.write("/etc/llmsup/llmsup.yaml", s.config("nonsense: 1\n"))
	s.try("systemctl", "reload", "llmsup.service")
	s.await("the status line tells of the refusal", 5*time.Second, func() bool {
		return strings.Contains(s.show("llmsup.service", "StatusText"), "the last reload was refused: /etc/llmsup/llmsup.yaml:10: unknown key \"nonsense\"")
	})
	if _, err := s.call(fresh, "reloaded"); err != nil {
		s.t.Errorf("the old route, after a wrong configuration: %v", err)
	}
	if status, out := s.try("llmsup", "reload"); status != 1 || !strings.Contains(out, "llmsup.yaml:10") {
		s.t.Errorf("llmsup reload: exit %d, %s", status, out)
	}
	s.write("/etc/llmsup/llmsup.yaml", s.config(""))
	s.must("systemctl", "reload", "llmsup.service")
	s.await("the status line is as before", 5*time.Second, func() bool { return s.show("llmsup.service", "StatusText") == "demo ready" })
	if now := s.show("llmsup.service", "MainPID"); now != pid || s.show("llmsup.service", "ActiveState") != "active" {
		s.t.Errorf("it is another process, %s and not %s", now, pid)
	}
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
