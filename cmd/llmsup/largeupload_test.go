package main

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// maxUploadRSS is by how many bytes the memory of llmsup may grow during an upload of any size.
const maxUploadRSS = 64 << 20

// TestLargeUpload: a recording of 300 MB (or of LLMSUP_TEST_UPLOAD_MB) is not held in memory. If
// the first backend fails after it has received the recording, the second one gets the same bytes.
// An engine of llmsup's own gets all of it, too.
func TestLargeUpload(t *testing.T) {
	megabytes := 300
	if n, err := strconv.Atoi(os.Getenv("LLMSUP_TEST_UPLOAD_MB")); err == nil {
		megabytes = n
	}
	sums := make(chan string, 2)
	receive := func(status int) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet { // it has no list of models
				http.NotFound(w, r)
				return
			}
			sums <- sumOfForm(r)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"text":"1 2 3"}`)
		}))
		t.Cleanup(s.Close)
		return s
	}
	file := newTestConfig(t, fmt.Sprintf(`max_body: 1024GiB
servers:
`+engineServer("voice", "--name, voice")+`upstreams:
  first: {base_url: %q}
  second: {base_url: %q}
routes:
  whisper: {primary: first, primary_model: whisper-1, fallback: second, fallback_model: whisper-2}
`, receive(503).URL, receive(200).URL))
	in := launch(t, nil, "--config", file.path)
	in.awaitReady()
	status := "/proc/" + strconv.Itoa(in.cmd.Process.Pid) + "/status"
	if err := os.WriteFile("/proc/"+strconv.Itoa(in.cmd.Process.Pid)+"/clear_refs", []byte("5"), 0); err != nil { // resets the peak
		t.Fatal(err)
	}
	before := memoryField(t, status, "VmRSS")
	text, backend, sum := in.transcribe("whisper", megabytes)
	if text != "1 2 3" || backend != "second" {
		t.Errorf("%q from %q", text, backend)
	}
	for _, model := range []string{"whisper-1", "whisper-2"} {
		if got, want := <-sums, model+" "+sum; got != want {
			t.Errorf("%s received %s, want %s", model, got, want)
		}
	}
	if text, backend, _ := in.transcribe("local/voice", megabytes); text != fmt.Sprintf("%d bytes for voice", megabytes<<20) || backend != "voice" {
		t.Errorf("%q from %q", text, backend)
	}
	grown := memoryField(t, status, "VmHWM") - before
	t.Logf("%d MB grow the memory of llmsup by %d KB, from %d KB", megabytes, grown>>10, before>>10)
	if grown > maxUploadRSS {
		t.Errorf("the memory grew by %d bytes", grown)
	}
	if entries, err := os.ReadDir(in.state); err != nil || strings.Contains(fmt.Sprint(entries), "body") {
		t.Errorf("%v, %v", entries, err)
	}
}

// transcribe uploads a recording of some megabytes, and returns its text, which backend answered,
// and the recording's SHA-256.
func (in *instance) transcribe(model string, megabytes int) (text, backend, sum string) {
	in.t.Helper()
	body, w := io.Pipe()
	form, hash := multipart.NewWriter(w), sha256.New()
	go func() { _ = w.CloseWithError(writeRecording(form, hash, model, megabytes)) }()
	resp, err := http.Post(in.url+"/v1/audio/transcriptions", form.FormDataContentType(), body)
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		in.t.Errorf("%d %s, %v", resp.StatusCode, answer, err)
	}
	return gjson.GetBytes(answer, "text").Str, resp.Header.Get("X-Llmsup-Backend"), fmt.Sprintf("%x", hash.Sum(nil))
}

// writeRecording writes a form with a file of some megabytes, and its model after it. The sum
// is that of the file.
func writeRecording(form *multipart.Writer, sum hash.Hash, model string, megabytes int) error {
	file, err := form.CreateFormFile("file", "a.wav")
	if err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	for i := range megabytes {
		for at := range piece {
			piece[at] = byte(i + at*at>>7)
		}
		if _, err := io.MultiWriter(file, sum).Write(piece); err != nil {
			return err
		}
	}
	if err := form.WriteField("model", model); err != nil {
		return err
	}
	return form.Close()
}

// sumOfForm returns the model of a form, and the SHA-256 of its file.
func sumOfForm(r *http.Request) string {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return err.Error()
	}
	model, sum := "", sha256.New()
	for parts := multipart.NewReader(r.Body, params["boundary"]); ; {
		p, err := parts.NextPart()
		switch {
		case err == io.EOF: //nolint:errorlint // as the reader returns it
			return fmt.Sprintf("%s %x", model, sum.Sum(nil))
		case err != nil:
			return err.Error()
		case p.FormName() == "model":
			name, _ := io.ReadAll(p)
			model = string(name)
		default:
			if _, err := io.Copy(sum, p); err != nil {
				return err.Error()
			}
		}
	}
}

// memoryField returns a field of /proc/PID/status in bytes.
func memoryField(t *testing.T, path, name string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(text), "\n"+name+":")
	n, err := strconv.Atoi(strings.Fields(value)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
