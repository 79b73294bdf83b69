package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// writeWhisperModel writes a model in the format that whisper.cpp's whisper_model_load reads,
// and returns its path. It has no tensors, which whisper.cpp accepts "for testing": it computes
// with zeros, and its text is always empty.
func writeWhisperModel(t *testing.T) (path string) {
	t.Helper()
	const mels, fft = 80, 201 // the shape of the filter bank
	model := binary.LittleEndian.AppendUint32(nil, 0x67676d6c)
	for _, n := range []uint32{
		51864,          // tokens, of a model for English
		1500, 64, 1, 1, // audio: context, width, heads, layers
		16, 64, 1, 1, // text: the same
		mels, 1, // the type of the tensors: 16 bits
		mels, fft, // of the filters that follow
	} {
		model = binary.LittleEndian.AppendUint32(model, n)
	}
	model = append(model, make([]byte, mels*fft*4)...)
	model = binary.LittleEndian.AppendUint32(model, 1) // the token that is looked up by its text; all others get names
	model = append(binary.LittleEndian.AppendUint32(model, 1), ' ')
	path = filepath.Join(t.TempDir(), "model.bin")
	if err := os.WriteFile(path, model, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// silentWAV returns a recording of some seconds: 16,000 samples per second of 16 bits, one
// channel.
func silentWAV(seconds int) []byte {
	const rate, width = 16000, 2
	size := uint32(seconds * rate * width)
	wav := binary.LittleEndian.AppendUint32([]byte("RIFF"), 36+size)
	wav = append(wav, "WAVEfmt "...)
	for _, field := range []any{uint32(16), uint16(1), uint16(1), uint32(rate), uint32(rate * width), uint16(width), uint16(8 * width)} {
		wav, _ = binary.Append(wav, binary.LittleEndian, field)
	}
	wav = binary.LittleEndian.AppendUint32(append(wav, "data"...), size)
	return append(wav, make([]byte, size)...)
}

// heard is what a client learns from a transcription.
type heard struct {
	backend, reason, text string
	seconds               float64 // of the recording, as the backend says
}

// hear has a model transcribe a recording of some seconds, with OpenAI's SDK.
func (in *instance) hear(model string, seconds int) (h heard, err error) {
	note := func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		resp, err := next(r)
		if err == nil {
			h.backend, h.reason = resp.Header.Get("X-Llmsup-Backend"), resp.Header.Get("X-Llmsup-Reason")
		}
		return resp, err
	}
	sdk := openai.NewClient(option.WithBaseURL(in.url+"/v1"), option.WithAPIKey("client-secret"), option.WithMaxRetries(0), option.WithMiddleware(note))
	got, err := sdk.Audio.Transcriptions.New(in.t.Context(), openai.AudioTranscriptionNewParams{
		File: openai.File(bytes.NewReader(silentWAV(seconds)), "a.wav", "audio/wav"), Model: model, ResponseFormat: openai.AudioResponseFormatVerboseJSON,
	})
	if err != nil {
		return h, err
	}
	h.text, h.seconds = got.Text, got.Duration
	return h, nil
}

// TestWhisperServer: whisper.cpp's real server as a server with a command. A call loads it, and
// it transcribes. Calls move to the fallback while it is not loaded, when it is killed, and while
// it cannot start; then it is replaced. After llmsup unload and after the end of llmsup nothing of it is left.
func TestWhisperServer(t *testing.T) {
	t.Parallel()
	model := writeWhisperModel(t)
	in := launch(t, nil, "--config", newTestConfig(t, fmt.Sprintf(`servers:
  voice:
    # Without -nlp it would detect the language of each answer a second time.
    command: [%s, --host, 127.0.0.1, --port, "${PORT}", --inference-path, /v1/audio/transcriptions, -m, %s, -t, "1", -nlp]
    slots: 1
    load: on_demand
upstreams:
  cloud: {base_url: %q}
routes:
  whisper: {primary: voice, fallback: cloud, fallback_model: m}
`, programOf(t, "LLMSUP_TEST_WHISPER_SERVER", "scripts/whisper-server.sh"), model, mediaCloud(t).URL)).path)
	in.await("unloaded", func(s control.Server) bool { return s.State == "unloaded" && s.PID == 0 })
	check := func(what, model string, seconds int, want heard) {
		t.Helper()
		if got, err := in.hear(model, seconds); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", what, got, err, want)
		}
	}
	check("a call that waits until it is loaded", "local/voice", 1, heard{backend: "voice", seconds: 1})
	check("a loaded one", "whisper", 2, heard{backend: "voice", seconds: 2})

	first := in.awaitReady()
	type result struct {
		heard
		err error
	}
	done := make(chan result, 1)
	go func() {
		h, err := in.hear("whisper", 900)
		done <- result{h, err}
	}()
	in.await("a call", func(s control.Server) bool { return s.Busy > 0 })
	if err := os.Rename(model, model+".away"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.err != nil || r.heard != (heard{backend: "cloud", reason: "lost", text: "cloud"}) {
		t.Errorf("a call during which it is killed: %+v", r)
	}
	if got, err := in.hear("whisper", 1); err != nil || got.text != "cloud" { // the reason depends on when the call comes
		t.Errorf("one that cannot start: %+v, %v", got, err)
	}
	in.await("without its model", func(s control.Server) bool { return s.LastExit != nil && s.LastExit.Class == "model_missing" })
	if err := os.Rename(model+".away", model); err != nil {
		t.Fatal(err)
	}
	if code, out := in.run("load", "voice"); code != 0 {
		t.Errorf("load: %d: %s", code, out)
	}
	second := in.await("replaced", func(s control.Server) bool { return isReady(s) && s.PID != first.PID })
	check("the new one", "whisper", 1, heard{backend: "voice", seconds: 1})

	if code, out := in.run("unload", "voice"); code != 0 {
		t.Errorf("unload: %d: %s", code, out)
	}
	awaitExit(t, first.PID, second.PID)
	check("an unloaded one", "whisper", 1, heard{backend: "cloud", reason: "unloaded", text: "cloud"}) // and it is loaded
	third := in.awaitReady()
	in.stop()
	awaitExit(t, third.PID)
}
