package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/enginetest"
)

// mediaCloud is an upstream with the endpoints of images and audio. Its answers name it.
func mediaCloud(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		switch _, path, _ := strings.Cut(r.URL.Path, "/v1"); path {
		case "/models":
			http.NotFound(w, r)
		case "/audio/speech":
			w.Header().Set("Content-Type", "audio/mpeg")
			_, _ = io.WriteString(w, "cloud")
		default:
			_, _ = io.WriteString(w, `{"text":"cloud","data":[{"b64_json":"Y2xvdWQ="}],"results":[{"flagged":true}]}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// mediaClient makes a call at each endpoint of images, audio, moderations, embeddings and
// rerank with OpenAI's SDK, as far as that has them. answers has what the SDK returned, and
// backends which backend answered.
type mediaClient struct {
	t        *testing.T
	in       *instance
	sdk      openai.Client
	backends map[string]string
}

func newMediaClient(t *testing.T, in *instance) *mediaClient {
	t.Helper()
	c := &mediaClient{t: t, in: in, backends: map[string]string{}}
	note := func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		resp, err := next(r)
		if err == nil {
			c.backends[r.URL.Path] = resp.Header.Get("X-Llmsup-Backend") + " " + resp.Header.Get("X-Llmsup-Reason")
		}
		return resp, err
	}
	c.sdk = openai.NewClient(option.WithBaseURL(in.url+"/v1"), option.WithAPIKey("client-secret"), option.WithMaxRetries(0), option.WithMiddleware(note))
	return c
}

// calls returns the calls for a model, by path. Each returns what is particular of the answer.
func (c *mediaClient) calls(model string) map[string]func() (string, error) {
	ctx := c.t.Context()
	file := func(name string) io.Reader {
		return openai.File(bytes.NewReader(make([]byte, 1000)), name, "application/octet-stream")
	}
	return map[string]func() (string, error){
		"/v1/images/generations": func() (string, error) {
			got, err := c.sdk.Images.Generate(ctx, openai.ImageGenerateParams{Prompt: "a cat", Model: model, N: openai.Int(2)})
			if err != nil {
				return "", err
			}
			return fmt.Sprint(len(got.Data), got.Data[0].B64JSON), nil
		},
		"/v1/images/edits": func() (string, error) {
			got, err := c.sdk.Images.Edit(ctx, openai.ImageEditParams{Prompt: "a hat", Model: model, N: openai.Int(2), Image: openai.ImageEditParamsImageUnion{OfFile: file("cat.png")}})
			if err != nil {
				return "", err
			}
			return fmt.Sprint(len(got.Data), got.Data[0].B64JSON), nil
		},
		"/v1/audio/speech": func() (string, error) {
			got, err := c.sdk.Audio.Speech.New(ctx, openai.AudioSpeechNewParams{Input: "hi", Model: model, Voice: openai.AudioSpeechNewParamsVoiceUnion{OfString: openai.String("alloy")}})
			if err != nil {
				return "", err
			}
			defer got.Body.Close()
			audio, err := io.ReadAll(got.Body)
			return string(audio), err
		},
		"/v1/audio/transcriptions": func() (string, error) {
			got, err := c.sdk.Audio.Transcriptions.New(ctx, openai.AudioTranscriptionNewParams{File: file("a.wav"), Model: model})
			if err != nil {
				return "", err
			}
			return got.Text, nil
		},
		"/v1/audio/translations": func() (string, error) {
			got, err := c.sdk.Audio.Translations.New(ctx, openai.AudioTranslationNewParams{File: file("a.wav"), Model: model}) //nolint:staticcheck // the SDK calls it deprecated, and servers have it
			if err != nil {
				return "", err
			}
			return got.Text, nil
		},
		"/v1/embeddings": func() (string, error) {
			got, err := c.sdk.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: model, Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a", "b"}}})
			if err != nil {
				return "", err
			}
			return fmt.Sprint(len(got.Data)), nil
		},
		"/v1/moderations": func() (string, error) {
			got, err := c.sdk.Moderations.New(ctx, openai.ModerationNewParams{Model: model, Input: openai.ModerationNewParamsInputUnion{OfString: openai.String("x")}})
			if err != nil {
				return "", err
			}
			return fmt.Sprint(got.Results[0].Flagged), nil
		},
		"/v1/rerank": func() (string, error) { // the SDK has none
			r := c.in.post("/v1/rerank", fmt.Sprintf(`{"model":%q,"query":"a","documents":["a","b"]}`, model))
			c.backends["/v1/rerank"] = r.backend() + " " + r.header.Get("X-Llmsup-Reason")
			return fmt.Sprint(len(gjson.Get(r.body, "results").Array())), r.readErr
		},
	}
}

// check makes the calls for a model, and compares the answers, and which backend gave them and
// why.
func (c *mediaClient) check(model, backend string, want map[string]string) {
	c.t.Helper()
	for path, call := range c.calls(model) {
		got, err := call()
		if err != nil || got != want[path] || c.backends[path] != backend {
			c.t.Errorf("%s: %q, %v from %q; want %q from %q", path, got, err, c.backends[path], want[path], backend)
		}
	}
}

// TestMediaEngine: images, audio, embeddings, ranks and moderations of an engine that is not
// llama-server, by model name; and of the fallback, if the engine lacks the path, is drained, or
// has crashed.
func TestMediaEngine(t *testing.T) {
	t.Parallel()
	file := newTestConfig(t, "servers:\n"+engineServer("media", "--name, media")+engineServer("other", "--prefix, /other")+fmt.Sprintf(`upstreams:
  cloud: {base_url: %q}
routes:
  media: {primary: media, primary_model: Org/Media, aliases: [tts-1], fallback: cloud, fallback_model: m}
  lacks: {primary: other, fallback: cloud, fallback_model: m}
`, mediaCloud(t).URL))
	in := launch(t, nil, "--config", file.path)
	in.awaitServer(0, "ready", isReady)
	in.awaitServer(1, "ready", isReady)
	c, speech := newMediaClient(t, in), ""
	for n := range enginetest.SpeechChunks {
		speech += enginetest.SpeechChunk(n)
	}
	cloud := map[string]string{
		"/v1/images/generations": "1Y2xvdWQ=", "/v1/images/edits": "1Y2xvdWQ=", "/v1/audio/speech": "cloud", "/v1/audio/transcriptions": "cloud",
		"/v1/audio/translations": "cloud", "/v1/embeddings": "1", "/v1/moderations": "true", "/v1/rerank": "1",
	}
	for _, model := range []string{"media", "tts-1"} {
		c.check(model, "media ", map[string]string{
			"/v1/images/generations": "2aW1hZ2U=", "/v1/images/edits": "2aW1hZ2U=", "/v1/audio/speech": speech, "/v1/audio/transcriptions": "1000 bytes for Org/Media",
			"/v1/audio/translations": "1000 bytes for Org/Media", "/v1/embeddings": "2", "/v1/moderations": "false", "/v1/rerank": "2",
		})
	}
	c.check("lacks", "cloud unsupported", cloud)
	if r := in.post("/tokenize", `{"model":"media","content":"a"}`); r.status != 400 || !strings.Contains(r.body, "media runs test-engine, which has no /tokenize") {
		t.Errorf("/tokenize: %d %s", r.status, r.body)
	}
	about := func(id, field string) string {
		return gjson.Get(in.get("/v1/models"), `data.#(id="`+id+`").`+field).Raw
	}
	for _, id := range []string{"media", "tts-1"} {
		if about(id, "status") != `"ready"` || about(id, "owned_by") != `"media"` || about(id, "capabilities") != "" || about(id, "context_length") != "" {
			t.Errorf("%s", about(id, "@this"))
		}
	}
	c.drainDuringSpeech(speech)
	c.check("media", "cloud drained", cloud)
	if code, out := in.run("resume", "media"); code != 0 {
		t.Fatalf("resume: %s", out)
	}
	c.exitDuringSpeech()
}

// drainDuringSpeech drains the engine while it speaks: the client hears it to its end.
func (c *mediaClient) drainDuringSpeech(whole string) {
	c.t.Helper()
	pid := c.in.awaitServer(0, "ready", isReady).PID
	stream := c.startSpeech()
	defer stream.Close()
	drained := c.in.runInBackground("drain", "media", "--yes")
	c.in.awaitServer(0, "draining", func(s control.Server) bool { return s.State == "draining" })
	c.in.onPort(pid, "/test/continue")
	rest, err := io.ReadAll(stream)
	if got := enginetest.SpeechChunk(0) + string(rest); err != nil || got != whole {
		c.t.Errorf("%q, %v; want %q", got, err, whole)
	}
	if out := <-drained; !strings.HasPrefix(out, "0 ") {
		c.t.Errorf("drain: %s", out)
	}
}

// startSpeech begins a call for speech, and reads the first piece. The engine sends the others
// after /test/continue.
func (c *mediaClient) startSpeech() io.ReadCloser {
	c.t.Helper()
	resp, err := http.Post(c.in.url+"/v1/audio/speech", "application/json", strings.NewReader(`{"model":"media","input":"wait"}`))
	if err != nil {
		c.t.Fatal(err)
	}
	first := make([]byte, len(enginetest.SpeechChunk(0)))
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != enginetest.SpeechChunk(0) {
		c.t.Fatalf("%q, %v", first, err)
	}
	return resp.Body
}

// exitDuringSpeech ends the engine while it speaks: the answer does not look whole.
func (c *mediaClient) exitDuringSpeech() {
	c.t.Helper()
	pid := c.in.awaitServer(0, "ready", isReady).PID
	stream := c.startSpeech()
	defer stream.Close()
	c.in.onPort(pid, "/test/exit?code=1&line=error")
	if rest, err := io.ReadAll(stream); !errors.Is(err, io.ErrUnexpectedEOF) {
		c.t.Errorf("%q, %v", rest, err)
	}
}

// TestUnloadedModelIsListed: /v1/models describes a model that has never been loaded by its
// file, under all of its names, and the box is healthy with it.
func TestUnloadedModelIsListed(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--config", newTestConfig(t, fmt.Sprintf(`servers:
  lazy: {model: %s, load: on_demand}
routes:
  lazy: {primary: lazy, aliases: [gpt-4o-mini]}
`, demoModel(t))).path)
	for _, id := range []string{"lazy", "gpt-4o-mini", "local/lazy", "local"} {
		about := gjson.Get(in.get("/v1/models"), `data.#(id="`+id+`")`)
		for field, want := range map[string]string{
			"status": `"unloaded"`, "context_length": "8192", "capabilities": `["chat","completion"]`, "owned_by": `"lazy"`, "architecture.modality": `"text->text"`,
			"meta": `{"n_vocab":3262,"n_ctx":8192,"n_ctx_train":8192,"n_embd":64,"n_params":475200,"size":1900800}`,
		} {
			if got := about.Get(field).Raw; got != want {
				t.Errorf("%s of %s: %s, want %s", field, id, got, want)
			}
		}
	}
	if r := in.request("GET", "/health", ""); r.status != 200 || !gjson.Get(r.body, `backends.#(name="lazy").usable`).Bool() {
		t.Errorf("/health: %d %s", r.status, r.body)
	}
}
