package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/hub"
	"github.com/llmsup/llmsup/models/hub/hubtest"
)

const (
	demoRepo = "org/Demo-GGUF"
	demoRef  = "hf:" + demoRepo + ":Q8_0"
)

// slowHub is a hub with the demo model. Its downloads stop after each chunk until release is
// called.
type slowHub struct {
	*hubtest.Hub
	size    int64 // bytes of the model
	next    chan struct{}
	release func()
}

func newSlowHub(t *testing.T) *slowHub {
	t.Helper()
	model, err := os.ReadFile(demoModel(t))
	if err != nil {
		t.Fatal(err)
	}
	h := &slowHub{size: int64(len(model)), next: make(chan struct{})}
	h.Hub = hubtest.Start(t, hubtest.Repo{Name: demoRepo, Files: []hubtest.File{
		{Path: "Demo-Q4_K_M.gguf", Content: []byte("not it")}, {Path: "Demo-Q8_0.gguf", Content: model},
	}}, hubtest.Repo{Name: "org/Several-GGUF", Files: []hubtest.File{{Path: "Several-Q4_K_M.gguf", Content: model}, {Path: "Several-Q8_0.gguf", Content: model}}})
	released := false
	h.release = func() {
		if !released {
			released = true
			close(h.next)
		}
	}
	t.Cleanup(h.release)
	h.Slow(64<<10, h.next)
	return h
}

// chunks lets some chunks of a download pass.
func (h *slowHub) chunks(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case h.next <- struct{}{}:
		case <-time.After(testTimeout):
			t.Fatal("nothing is downloaded")
		}
	}
}

// downloadConfig has a server that is always loaded and one that is loaded on demand, with one
// model to download.
func downloadConfig(c *fakeCloud, more string) string {
	return fmt.Sprintf(`
upstreams:
  openrouter: {base_url: %q, api_key_env: TEST_OPENROUTER_KEY}
servers:
  now: {model: %q}
  later: {model: %q, load: on_demand}
%sroutes:
  local/now: {primary: now, fallback: openrouter, fallback_model: vendor/chat}
  local/later: {primary: later, fallback: openrouter, fallback_model: vendor/chat}
`, c.URL+"/api/v1", demoRef, demoRef, more)
}

// server returns the status of a server.
func (in *instance) server(name string) (found control.Server) {
	in.t.Helper()
	in.awaitStatus("configured: "+name, func(s control.Status) bool {
		for _, one := range s.Servers {
			if one.Name == name {
				found = one
				return true
			}
		}
		return false
	})
	return found
}

// awaitState waits until a server has a state, and a reason that begins with a text.
func (in *instance) awaitState(name, state, reason string) (last control.Server) {
	in.t.Helper()
	if !eventually(testTimeout, func() bool {
		last = in.server(name)
		return last.State == state && strings.HasPrefix(last.Reason, reason)
	}) {
		in.t.Fatalf("%s is not %s: %s...: %+v", name, state, reason, last)
	}
	return last
}

// TestFirstStart: with an empty disk, llmsup downloads the model of two servers once. Meanwhile
// it shows the progress, and calls go to the fallback; then the servers answer. The next start
// needs no hub.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	h, c := newSlowHub(t), newFakeCloud(t)
	file := newTestConfig(t, downloadConfig(c, ""))
	in := launch(t, append(c.env(), h.Environment()...), "--config", file.path)
	h.chunks(t, 4)
	in.awaitServer(1, "downloading", func(s control.Server) bool { return s.Download != nil && s.Download.DoneBytes > 0 })
	starting := in.awaitState("now", "starting", "downloading ")
	if d := starting.Download; d == nil || d.Ref != demoRef || d.TotalBytes == nil || *d.TotalBytes != h.size || d.Problem != "" || starting.PID != 0 {
		t.Errorf("%+v", starting)
	}
	in.awaitState("later", "unloaded", "downloading ")
	for name, reason := range map[string]string{"now": "starting", "later": "unloaded"} {
		if r := in.chat("local/"+name, ""); r.status != 200 || r.backend() != "openrouter" || r.reason() != reason {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for _, command := range [][]string{{"status"}, {"models"}} {
		if code, out := in.run(command...); code != 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), "downloading ") {
			t.Errorf("%q: exit %d\n%s", command, code, out)
		}
	}
	if code, out := in.run("drain", "now"); code != 0 {
		t.Errorf("drain: exit %d\n%s", code, out)
	}
	in.awaitState("now", "drained", "")
	var commands sync.WaitGroup
	for _, command := range []string{"resume", "restart"} { // they wait for the download
		commands.Go(func() {
			if code, out := in.run(command, "now"); code != 0 {
				t.Errorf("%s: exit %d\n%s", command, code, out)
			}
		})
		in.awaitState("now", "starting", "downloading")
	}
	h.release()
	in.awaitState("now", "ready", "")
	commands.Wait()
	if r := in.chat("local/now", `,"max_tokens":3`); r.backend() != "now" || !strings.Contains(r.body, "1 2 3") {
		t.Errorf("%+v", r)
	}
	in.chat("local/later", "")
	in.awaitState("later", "ready", "")
	path := filepath.Join(in.state, "models", demoRepo, "Demo-Q8_0.gguf")
	if now := in.server("later"); now.Model != path || now.Download != nil {
		t.Errorf("%+v", now)
	}
	if served := h.Served(); served > h.size*3/2 {
		t.Errorf("%d bytes were downloaded for a model of %d", served, h.size)
	}

	in.stop()
	offline := launchIn(t, in.state, append(c.env(), "HF_ENDPOINT=http://127.0.0.1:1", "HF_HUB_OFFLINE=1"), "--config", file.path)
	offline.awaitState("now", "ready", "")
}

// TestKilledDuringDownload: after a kill -9 in the middle of a download the next start continues
// it.
func TestKilledDuringDownload(t *testing.T) {
	t.Parallel()
	h := newSlowHub(t)
	in := launch(t, h.Environment(), "--model", demoRef)
	h.chunks(t, 20)
	in.awaitState("demo", "starting", "downloading")
	if err := in.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-in.done
	partials, err := hub.Partials(filepath.Join(in.state, "models"))
	if err != nil || len(partials) != 1 || partials[0].Done < 4*64<<10 {
		t.Fatalf("%+v %v", partials, err)
	}
	before := h.Served()
	h.release()
	again := launchIn(t, in.state, h.Environment(), "--model", demoRef)
	again.awaitState("demo", "ready", "")
	if rest := h.Served() - before; rest > h.size-partials[0].Done+1<<16 {
		t.Errorf("%d of %d bytes were there, and %d more were downloaded", partials[0].Done, h.size, rest)
	}
}

// TestStoppedDownload: a reload that removes the server ends its download and keeps what is
// there; so does Ctrl-C, at once.
func TestStoppedDownload(t *testing.T) {
	t.Parallel()
	h, c := newSlowHub(t), newFakeCloud(t)
	file := newTestConfig(t, downloadConfig(c, ""))
	in := launch(t, append(c.env(), h.Environment()...), "--config", file.path)
	h.chunks(t, 4)
	in.awaitState("now", "starting", "downloading")
	file.write("upstreams: {}\n")
	if code, out := in.reload(); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	in.awaitLog("the download stops")
	in.awaitStatus("without servers", func(s control.Status) bool { return len(s.Servers) == 0 })
	if partials, err := hub.Partials(filepath.Join(in.state, "models")); err != nil || len(partials) != 1 || partials[0].Done == 0 {
		t.Errorf("%+v %v", partials, err)
	}
	file.write(downloadConfig(c, ""))
	if code, out := in.reload(); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	h.chunks(t, 1)
	in.awaitState("now", "starting", "downloading ")
	begun := time.Now()
	in.stop()
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("llmsup took %s to stop", took)
	}
}

// TestFailedDownload: a download that fails is the reason of its server, and stops nothing else, one
// without a quantisation included; llmsup reload tries it again.
func TestFailedDownload(t *testing.T) {
	t.Parallel()
	h, c := newSlowHub(t), newFakeCloud(t)
	h.release()
	h.Set(hubtest.Repo{Name: "org/Closed-GGUF", Gated: true, Files: []hubtest.File{{Path: "Closed-Q8_0.gguf", Content: []byte("GGUF")}}})
	file := newTestConfig(t, downloadConfig(c, "  closed: {model: hf:org/Closed-GGUF}\n  several: {model: hf:org/Several-GGUF}\n"))
	in := launch(t, append(c.env(), h.Environment()...), "--config", file.path)
	in.awaitState("now", "ready", "")
	if chosen := in.awaitState("several", "ready", ""); !strings.HasSuffix(chosen.Model, "Several-Q4_K_M.gguf") { // there is no GPU
		t.Errorf("%+v", chosen)
	}
	failed := in.awaitState("closed", "starting", "its model cannot be downloaded: org/Closed-GGUF is gated: accept its licence at")
	if failed.Download == nil || failed.Download.Problem == "" || failed.Download.NextTry == nil {
		t.Errorf("%+v", failed.Download)
	}
	model, err := os.ReadFile(demoModel(t))
	if err != nil {
		t.Fatal(err)
	}
	h.Set(hubtest.Repo{Name: "org/Closed-GGUF", Files: []hubtest.File{{Path: "Closed-Q8_0.gguf", Content: model}}})
	if code, out := in.reload(); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	in.awaitState("closed", "ready", "")
}

// TestCommandsDuringDownload: a load waits for the download. It ends with the reason when the model is
// unloaded, drained or removed meanwhile, or llmsup stops; the download continues for another server.
func TestCommandsDuringDownload(t *testing.T) {
	t.Parallel()
	h, c := newSlowHub(t), newFakeCloud(t)
	file := newTestConfig(t, downloadConfig(c, ""))
	in := launch(t, append(c.env(), h.Environment()...), "--config", file.path)
	h.chunks(t, 4)
	in.awaitState("later", "unloaded", "downloading")
	if code, out := in.run("unload", "later"); code != 0 || out != "later is unloaded; a call loads it\n" {
		t.Errorf("unload: exit %d\n%s", code, out)
	}
	for _, tc := range []struct{ what, says string }{
		{"unload later", "later is not loaded: unloaded: "},
		{"drain later", "later was drained; llmsup resume later ends that"},
		{"remove later", "later is not loaded: stopped: it is no longer in the configuration"},
	} {
		result := in.loadWaits("later")
		command, name, _ := strings.Cut(tc.what, " ")
		if command == "remove" {
			text, _, _ := strings.Cut(downloadConfig(c, ""), "  later: ")
			file.write(text)
			command, name = "reload", ""
		}
		if code, out := in.run(strings.Fields(command + " " + name)...); code != 0 {
			t.Errorf("%s: exit %d\n%s", tc.what, code, out)
		}
		if code, out := result(); code != 1 || !strings.Contains(out, tc.says) {
			t.Errorf("load, and %s: exit %d\n%s", tc.what, code, out)
		}
		if tc.what == "drain later" {
			if code, out := in.run("resume", "later"); code != 0 {
				t.Errorf("exit %d\n%s", code, out)
			}
		}
	}
	in.awaitState("now", "starting", "downloading ")
	file.write(downloadConfig(c, ""))
	if code, out := in.reload(); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	result := in.loadWaits("later")
	h.release()
	if code, out := result(); code != 0 || !strings.Contains(out, "later is loaded, and is ready") {
		t.Errorf("load: exit %d\n%s", code, out)
	}
}

// loadWaits starts llmsup load of a server and waits until it shows why it waits. result waits for its
// end.
func (in *instance) loadWaits(name string) (result func() (code int, out string)) {
	in.t.Helper()
	cmd := exec.CommandContext(in.t.Context(), "llmsup", "load", name, "--control-socket", in.state+"/c.sock")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		in.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	output := bufio.NewReader(pipe)
	for line := ""; !strings.Contains(line, "downloading"); {
		if line, err = output.ReadString('\n'); err != nil {
			in.t.Fatalf("llmsup load prints %q, %v", line, err)
		}
	}
	return func() (int, string) {
		rest, _ := io.ReadAll(output) // the exit code follows
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode(), string(rest)
	}
}

// TestDiskFullDuringDownload: a disk that fills up is the reason of the server, its calls go to the
// fallback, and the download continues by itself once there is space.
func TestDiskFullDuringDownload(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		notRun(t, "only root can mount a small file system")
	}
	h, c, state := newSlowHub(t), newFakeCloud(t), shortDir(t)
	model := demoContent(t)
	h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/unsized.gguf" { // of which no space can be reserved
			return false
		}
		for part := range slices.Chunk(model, 64<<10) {
			_, _ = w.Write(part)
			_ = http.NewResponseController(w).Flush()
			if r.Header.Get("Range") == "" {
				<-h.next
			}
		}
		return true
	})
	disk := filepath.Join(state, "models")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=6m"); err != nil {
		notRun(t, fmt.Sprintf("no small file system can be mounted: %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	full := strings.ReplaceAll(downloadConfig(c, ""), demoRef, h.URL+"/unsized.gguf")
	file := newTestConfig(t, full)
	in := launchIn(t, state, append(c.env(), h.Environment()...), "--config", file.path)
	h.chunks(t, 4)
	in.awaitState("now", "starting", "downloading")
	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	h.release()
	in.awaitState("now", "starting", "its model cannot be downloaded: the disk of "+disk+"/127.0.0.1-")
	if later := in.awaitState("later", "unloaded", "its model cannot be downloaded: the disk of "+disk+"/127.0.0.1-"); !strings.Contains(later.Reason, " is full (no space left on device): free space, or choose another folder; next try in ") {
		t.Errorf("%s", later.Reason)
	}
	if r := in.chat("local/now", ""); r.status != 200 || r.backend() != "openrouter" || r.reason() != "starting" {
		t.Errorf("%+v", r)
	}
	file.write(strings.Replace(full, "routes:", "  sized: {model: \""+demoRef+"\"}\nroutes:", 1))
	if code, out := in.reload(); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	if sized := in.awaitState("sized", "starting", "its model cannot be downloaded: the disk of "+disk+"/org/Demo-GGUF has 0."); !strings.Contains(sized.Reason, " MiB free, and the download needs 1.9 MiB: free ") {
		t.Errorf("%s", sized.Reason)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	in.awaitState("now", "ready", "")
	in.awaitState("sized", "ready", "")
}
