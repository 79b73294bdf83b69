package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/hub"
	"github.com/llmsup/llmsup/models/hub/hubtest"
)

// pulled is how an llmsup pull ended.
type pulled struct {
	code        int
	out, stderr string
}

// pullCmd returns the command llmsup pull with a hub.
func pullCmd(t *testing.T, h *hubtest.Hub, state string, args ...string) (cmd *exec.Cmd, result func() pulled) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), "llmsup", append([]string{"pull"}, args...)...)
	cmd.Env = append(append(os.Environ(), h.Environment()...), "LLMSUP_STATE_DIR="+state)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	return cmd, func() pulled { return pulled{cmd.ProcessState.ExitCode(), out.String(), stderr.String()} }
}

// pull runs llmsup pull to its end.
func pull(t *testing.T, h *hubtest.Hub, state string, env []string, args ...string) pulled {
	t.Helper()
	cmd, result := pullCmd(t, h, state, args...)
	cmd.Env = append(cmd.Env, env...)
	if err := cmd.Run(); err != nil {
		if _, exited := errors.AsType[*exec.ExitError](err); !exited {
			t.Fatal(err)
		}
	}
	return result()
}

// demoContent returns the bytes of the demo model.
func demoContent(t *testing.T) []byte {
	t.Helper()
	var model bytes.Buffer
	if err := demo.Write(&model, demo.Small); err != nil {
		t.Fatal(err)
	}
	return model.Bytes()
}

// TestPullReadOnly: a folder on a disk that is read-only is an error that says what to do.
func TestPullReadOnly(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		notRun(t, "only root can mount a file system that is read-only")
	}
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: demoContent(t)}}})
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, "size=1m"); err != nil {
		notRun(t, fmt.Sprintf("no file system can be mounted: %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if got := pull(t, h, t.TempDir(), nil, "hf:a/b", "--dir", dir); got.code != 1 || !strings.Contains(got.stderr, ": read-only file system; choose another folder with --dir") {
		t.Errorf("%+v", got)
	}
}

// TestPullSIGTERM: a SIGTERM ends a download as Ctrl-C does: at once, and what has arrived is kept.
func TestPullSIGTERM(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: demoContent(t)}}})
	reached, release := h.Hold(600 << 10)
	defer release()
	state := t.TempDir()
	cmd, result := pullCmd(t, h, state, "hf:a/b")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	kept := func() bool {
		partials, err := hub.Partials(state + "/models")
		return err == nil && len(partials) == 1 && partials[0].Done > 0
	}
	if !eventually(testTimeout, kept) {
		t.Error("nothing has arrived")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its code is checked
	if got := result(); got.code != 1 || !strings.Contains(got.stderr, `stopped; what has arrived is kept, and "llmsup pull hf:a/b" continues`) {
		t.Errorf("%+v", got)
	}
	if !kept() {
		t.Error("what has arrived is gone")
	}
}

// TestPullAgain: a model that is there is named as that, with what it was compared by.
func TestPullAgain(t *testing.T) {
	t.Parallel()
	model := demoContent(t)
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: model}}})
	h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/plain.gguf" {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(model))
		}
		return r.URL.Path == "/plain.gguf"
	})
	state := t.TempDir()
	for ref, want := range map[string]string{
		"hf:a/b":              "it is there already; its SHA-256 is the hub's",
		h.URL + "/plain.gguf": "a file of its name and size is there already, and is no older; the server gives no SHA-256 to compare it with: remove it to download it again",
	} {
		for i := range 2 {
			got := pull(t, h, state, nil, ref)
			if again := strings.Contains(strings.Join(strings.Fields(got.stderr), " "), want); got.code != 0 || again != (i == 1) {
				t.Errorf("%+v", got)
			}
		}
	}
}

// TestPull: what the command prints, and with which code it ends.
func TestPull(t *testing.T) {
	t.Parallel()
	model := demoContent(t)
	gated := hubtest.Repo{Name: "a/gated", Gated: true, Files: []hubtest.File{{Path: "m-F32.gguf", Content: model}}}
	h := hubtest.Start(t, gated,
		hubtest.Repo{Name: "a/b", Files: append(hubtest.Split(t, model, "m-F32", 3), hubtest.File{Path: "m-Q4_K_M.gguf", Content: model, Xet: true},
			hubtest.File{Path: "mmproj-Q8_0.gguf", Content: model}, hubtest.File{Path: "mmproj-F16.gguf", Content: model})},
		hubtest.Repo{Name: "a/damaged", Files: []hubtest.File{{Path: "m-F32.gguf", Content: model, SHA256: strings.Repeat("0", 64)}}},
		hubtest.Repo{Name: "a/html", Files: []hubtest.File{{Path: "m-F32.gguf", Content: []byte("<!doctype html><html></html>")}}})
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.WriteFile(closed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args   []string
		env    []string
		code   int
		out    string   // the paths below the folder with the models; * stands for a hash
		stderr []string // parts of it
	}{
		"a split model": {
			args: []string{"hf:a/b:F32"}, out: "a/b/m-F32-00001-of-00003.gguf",
			stderr: []string{"downloading m-F32-00001-of-00003.gguf and 2 more, 1.9 MiB, to STATE/models", "1.9 MiB in ", "; its SHA-256 is the hub's", "hf:a/b:F32 has a projector for images or sound, mmproj-F16.gguf: --mmproj downloads it too"},
		},
		"with its projector":      {args: []string{"hf:a/b", "--quant", "q4_k_m", "--mmproj"}, out: "a/b/m-Q4_K_M.gguf a/b/mmproj-F16.gguf"},
		"without a quantisation":  {args: []string{"hf:a/b"}, out: "a/b/m-Q4_K_M.gguf", stderr: []string{"Q4_K_M: "}},
		"one file":                {args: []string{"hf:a/b/m-Q4_K_M.gguf@main"}, out: "a/b@main/m-Q4_K_M.gguf"},
		"a URL":                   {args: []string{h.URL + "/a/b/resolve/main/m-Q4_K_M.gguf"}, out: "127.0.0.1-*/m-Q4_K_M.gguf", stderr: []string{"its SHA-256 is the hub's"}},
		"a licence accepted":      {args: []string{"hf:a/gated"}, env: []string{"HF_TOKEN=" + hubtest.Token}, out: "a/gated/m-F32.gguf"},
		"a licence not accepted":  {args: []string{"hf:a/gated"}, code: 1, stderr: []string{"llmsup: a/gated is gated: accept its licence at " + h.URL + "/a/gated"}},
		"no such quantisation":    {args: []string{"hf:a/b:Q6_K"}, code: 1, stderr: []string{"llmsup: a/b has no quantisation Q6_K; it has Q4_K_M, F32\n"}},
		"no such repository":      {args: []string{"hf:a/c"}, code: 1, stderr: []string{"a/c does not exist at "}},
		"no projector":            {args: []string{"hf:a/gated", "--mmproj"}, code: 1, stderr: []string{"hf:a/gated has no projector (mmproj): leave out --mmproj\n"}},
		"a wrong hash":            {args: []string{"hf:a/damaged"}, code: 1, stderr: []string{"m-F32.gguf arrived with the SHA-256 "}},
		"a web page":              {args: []string{"hf:a/html"}, code: 1, stderr: []string{"is not a GGUF file, whatever its name says"}},
		"offline":                 {args: []string{"hf:a/b"}, env: []string{"HF_HUB_OFFLINE=1"}, code: 1, stderr: []string{"HF_HUB_OFFLINE is set"}},
		"a hub that is no URL":    {args: []string{"hf:a/b"}, env: []string{"HF_ENDPOINT=huggingface.co"}, code: 1, stderr: []string{"HF_ENDPOINT is not the URL of a hub"}},
		"a token with a newline":  {args: []string{"hf:a/b"}, env: []string{"HF_TOKEN=hf_a\nb"}, code: 1, stderr: []string{"the token in HF_TOKEN has characters that no token has"}},
		"a folder that is a file": {args: []string{"hf:a/b:F32", "--dir", closed}, code: 1, stderr: []string{"not a directory"}},
		"no reference":            {code: 2, stderr: []string{"llmsup pull takes one reference"}},
		"a wrong reference":       {args: []string{"qwen"}, code: 2, stderr: []string{`"qwen" is not a reference to a model`}},
		"two quantisations":       {args: []string{"hf:a/b:Q4_K_M", "--quant", "Q8_0"}, code: 2, stderr: []string{"this reference names the file already"}},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			got := pull(t, h, state, tc.env, tc.args...)
			var want string
			for path := range strings.FieldsSeq(tc.out) {
				path = filepath.Join(state, "models", path)
				if found, _ := filepath.Glob(path); len(found) == 1 {
					path = found[0]
				}
				want += path + "\n"
				if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o444 != 0o444 {
					t.Error(info, err)
				}
			}
			if got.code != tc.code || got.out != want {
				t.Errorf("%+v\nwant %d %s", got, tc.code, want)
			}
			for _, part := range tc.stderr {
				if !strings.Contains(got.stderr, strings.ReplaceAll(part, "STATE", state)) {
					t.Errorf("%s\nwant %s", got.stderr, part)
				}
			}
			if left, err := hub.Partials(state); err != nil || len(left) > 0 {
				t.Errorf("partial files are left: %+v, %v", left, err)
			}
			if tc.code == 0 {
				again := pull(t, h, state, tc.env, tc.args...)
				if again.out != want || !strings.Contains(again.stderr, "it is there already") {
					t.Errorf("again: %+v", again)
				}
			}
		})
	}
	for _, r := range h.Requests() {
		if r.Authorization != "" && r.Host != h.HubHost() {
			t.Errorf("the token went to the storage: %+v", r)
		}
	}
}

// TestPlainServer: a web server that is no hub gives no hash, and may send whole files only.
func TestPlainServer(t *testing.T) {
	t.Parallel()
	model := demoContent(t)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(model)))
		_, _ = w.Write(model)
	}))
	defer plain.Close()
	h := hubtest.Start(t)
	state := t.TempDir()
	got := pull(t, h, state, nil, plain.URL+"/m.gguf")
	if got.code != 0 || !regexp.MustCompile("^"+state+"/models/127.0.0.1-[0-9a-f]{8}/m.gguf\n$").MatchString(got.out) || !strings.Contains(got.stderr, "the server gives no SHA-256 to compare it with") || strings.Contains(got.stderr, "comparing") {
		t.Errorf("%+v", got)
	}
	code, out := runCommand(t, "fit", plain.URL+"/m.gguf", "--vram", "24GiB")
	if code != 1 || !strings.Contains(strings.Join(strings.Fields(out), " "), "the server does not send parts of a file: download it with llmsup pull, and name the file on disk") {
		t.Errorf("fit: exit %d: %s", code, out)
	}
}

// TestPullKilled: a pull that is killed at any byte leaves the file correct or absent, and the
// next one downloads only what is missing.
func TestPullKilled(t *testing.T) {
	t.Parallel()
	content := append([]byte("GGUF"), make([]byte, 9<<20)...) // three pieces
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(content[4:])
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-F32.gguf", Content: content}}})
	kept := 0
	for range 50 {
		state := t.TempDir()
		file := filepath.Join(state, "models/a/b/m-F32.gguf")
		after := rand.Int64N(int64(len(content)) + 1)
		reached, release := h.Hold(after)
		cmd, _ := pullCmd(t, h, state, "hf:a/b")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-reached
		if target := rand.Int64N(after + 1); !eventually(testTimeout, func() bool { return arrived(t, state) >= target }) {
			t.Fatalf("%d bytes of %d have arrived", arrived(t, state), target)
		}
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		release()
		if got, err := os.ReadFile(file); err == nil && !bytes.Equal(got, content) || err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("killed after %d bytes: the file has %d bytes, %v", after, len(got), err)
		}
		there := arrived(t, state)
		if there > 0 {
			kept++
		}
		before := h.Served()
		if got := pull(t, h, state, nil, "hf:a/b"); got.code != 0 || got.out != file+"\n" {
			t.Fatalf("killed after %d bytes: %+v", after, got)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("killed after %d bytes: the file has %d bytes, %v", after, len(got), err)
		}
		// The hub may go on writing to the killed process for a moment.
		const late = 1 << 20
		if served, missing := h.Served()-before, int64(len(content))-there; served < missing || served > missing+late {
			t.Errorf("killed after %d bytes, with %d there: %d bytes were served again", after, there, served)
		}
	}
	if kept < 40 {
		t.Errorf("only %d of 50 kills left something to continue", kept)
	}
}

// arrived returns how many bytes of unfinished downloads are on the disk.
func arrived(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	partials, err := hub.Partials(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range partials {
		bytes += p.Done
	}
	return bytes
}

// TestPullInterrupted: Ctrl-C keeps what has arrived and says how to continue.
func TestPullInterrupted(t *testing.T) {
	t.Parallel()
	content := append([]byte("GGUF"), make([]byte, 9<<20)...)
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-F32.gguf", Content: content}}})
	reached, release := h.Hold(5 << 20)
	state := t.TempDir()
	cmd, result := pullCmd(t, h, state, "hf:a/b")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	release()
	if got := result(); got.code != 1 || got.out != "" || !strings.HasSuffix(got.stderr, "llmsup: stopped; what has arrived is kept, and \"llmsup pull hf:a/b\" continues\n") {
		t.Errorf("%+v", got)
	}
	if arrived(t, state) == 0 {
		t.Error("nothing is left to continue")
	}
}

// TestPullAndStart: from an empty disk to an answer: the parts of a model are pulled, and
// llama-server answers with them.
func TestPullAndStart(t *testing.T) {
	t.Parallel()
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: hubtest.Split(t, demoContent(t), "Counting-F32", 4)})
	state := shortDir(t)
	got := pull(t, h, state, nil, "hf:a/b")
	if got.code != 0 {
		t.Fatalf("%+v", got)
	}
	in := launchIn(t, state, nil, "--model", strings.TrimSpace(got.out))
	in.await("the model is ready", isReady)
	if r := in.chat("local/counting", `,"max_tokens":5`); r.status != 200 || !strings.Contains(fmt.Sprint(r), "1 2 3 4 5") {
		t.Errorf("%+v", r)
	}
}
