package router

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
)

// TestPassThrough: calls of other APIs reach the upstream at its own address, unchanged but
// for the model, and the answer reaches the client byte for byte.
func TestPassThrough(t *testing.T) {
	const tail, answer = `"prompt":"a cat","input":"hi","query":"a","documents":["b"]}`, `{"id":"1","results":[{"index":0}], "n":1e400}`
	for path, address := range map[string]string{
		"/v1/images/generations": "/api/v1/images/generations",
		"/v1/images/edits":       "/api/v1/images/edits",
		"/v1/moderations":        "/api/v1/moderations",
		"/v1/audio/speech":       "/api/v1/audio/speech",
		"/v2/rerank":             "/api/v2/rerank",
	} {
		t.Run(path, func(t *testing.T) {
			b := newFixture(t, answers, status(200, answer))
			r := b.post(path+"/", `{ "model" : "gpt-4o",`+tail)
			if r.status != 200 || r.body != answer || r.backend() != "openrouter" || r.reason() != "" {
				t.Errorf("%d %s from %q (%s)", r.status, r.body, r.backend(), r.reason())
			}
			if got := b.cloud.requests()[0]; got.path != address || string(got.body) != `{ "model" : "openai/gpt-4o",`+tail {
				t.Errorf("%s %s", got.path, got.body)
			}
			r = b.post(path, `{"model":"local/qwen",`+tail)
			if r.status != 200 || r.backend() != "openrouter" || r.reason() != "unsupported" {
				t.Errorf("a fallback: %d %s from %q (%s)", r.status, r.body, r.backend(), r.reason())
			}
			r = b.post(path, `{"model":"local/alone",`+tail)
			if r.status != 501 || errorCode(r) != "unsupported" || !strings.Contains(r.body, "qwen runs llama-server, which has no "+path) {
				t.Errorf("no fallback: %d %s", r.status, r.body)
			}
			b.state.edit(loading)
			if r = b.post(path, `{"model":"local/alone",`+tail); r.status != 501 {
				t.Errorf("loading: %d %s", r.status, r.body)
			}
			if n := len(b.local.requests()); n != 0 {
				t.Errorf("llama-server was asked %d times", n)
			}
			b.cloud.handler = status(200, `{"error":{"message":"no"}}`)
			if r = b.post(path, `{"model":"gpt-4o",`+tail); r.status != 502 || !strings.Contains(r.body, "answered 200") {
				t.Errorf("an error in a 200: %d %s", r.status, r.body)
			}
			b.cloud.handler = status(400, `{"error":{"message":"bad size"}}`)
			if r = b.post(path, `{"model":"gpt-4o",`+tail); r.status != 400 || r.body != `{"error":{"message":"bad size"}}` {
				t.Errorf("an error: %d %s", r.status, r.body)
			}
		})
	}
}

// TestNoModelPassThrough: without a model, moderations go where OpenAI's default model does,
// and other calls are rejected: no local server has these paths.
func TestNoModelPassThrough(t *testing.T) {
	b := newFixture(t, answers, status(200, `{"results":[]}`), func(_ *plan.Config, routes map[string]models.Route) {
		routes["omni-moderation-latest"] = models.Route{Primary: "openrouter", PrimaryModel: "openai/omni", Timeout: time.Minute}
	})
	if r := b.post("/v1/moderations", `{"input":"x"}`); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if got := string(b.cloud.lastBody()); got != `{"model":"openai/omni","input":"x"}` {
		t.Errorf("sent %s", got)
	}
	for _, path := range []string{"/v1/images/generations", "/v1/audio/speech", "/v2/rerank", "/v1/fim/completions"} {
		if r := b.post(path, `{"input":"x"}`); r.status != 400 || !strings.Contains(r.body, `\"model\" is missing`) {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	b = newFixture(t, answers, answers)
	if r := b.post("/v1/moderations", `{"input":"x"}`); r.status != 400 {
		t.Errorf("without such a route: %d %s", r.status, r.body)
	}
}

// withFreePrimary adds a route, two, from a free upstream to the metered one.
func withFreePrimary(address string) func(*plan.Config, map[string]models.Route) {
	return func(c *plan.Config, routes map[string]models.Route) {
		c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "lan", BaseURL: address})
		routes["two"] = models.Route{Primary: "lan", Fallback: "openrouter", FallbackModel: "tts", Timeout: time.Minute}
	}
}

// TestSpeech: the first byte of speech is an answer and is passed on at once. JSON with an
// error, and no bytes at all, are not: the call moves on.
func TestSpeech(t *testing.T) {
	const body = `{"model":"two","input":"hi"}`
	received := make(chan struct{})
	speaks := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "audio/mpeg")
		_, _ = io.WriteString(w, "ID3\x00")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-received:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, strings.Repeat("\xff", 100_000))
	}
	lan := newFakeBackend(t, speaks)
	edit, acct := withLedger(t, budget.Limits{})
	b := newFixture(t, answers, status(200, "other", "Content-Type", "audio/mpeg"), withFreePrimary(lan.URL), edit)
	client := &http.Client{Timeout: waitLimit}
	resp, err := client.Post(b.url+"/v1/audio/speech", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(resp.Body, head); err != nil || string(head) != "ID3\x00" {
		t.Fatalf("%q, %v", head, err)
	}
	close(received) // the first bytes came while the rest was not made yet
	rest, err := io.ReadAll(resp.Body)
	if err != nil || len(rest) != 100_000 || resp.Header.Get("Content-Type") != "audio/mpeg" || resp.Header.Get("X-Llmsup-Backend") != "lan" {
		t.Errorf("%d bytes, %v, %v", len(rest), err, resp.Header)
	}
	for name, tc := range map[string]struct {
		behave http.HandlerFunc
		want   string // what the client receives; "" = an incomplete answer
	}{
		"an error in a 200": {status(200, `{"error":{"message":"no voice"}}`), "other"},
		"nothing":           {status(200, "", "Content-Type", "audio/mpeg"), "other"},
		"an error":          {status(500, `{}`), "other"},
		"broken":            {breaks, "other"},
		"with a length":     {status(200, "abc", "Content-Type", "audio/mpeg", "Content-Length", "3"), "abc"},
		"a long file":       {status(200, strings.Repeat("\xff\xfb", 500_000), "Content-Type", "audio/mpeg"), strings.Repeat("\xff\xfb", 500_000)},
		"one byte":          {status(200, "a", "Content-Type", "audio/mpeg"), "a"},
		"cut":               {raw("HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 9\r\n\r\nabc"), ""},
		"a cut chunk":       {raw("HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), ""},
	} {
		lan.mu.Lock()
		lan.handler = tc.behave
		lan.mu.Unlock()
		r := b.post("/v1/audio/speech", body)
		if (tc.want == "") != (r.readErr != nil) || tc.want != "" && r.body != tc.want || r.status != 200 {
			t.Errorf("%s: %d %q, %v", name, r.status, r.body, r.readErr)
		}
	}
	b.waitIdle()
	// Nothing reports what speech costs, so it is unknown, and never 0: of the four calls that
	// the paid upstream answered. Two answers were cut.
	if got := summary(usageBy(t, acct, ledger.ByRoute).Total); !strings.Contains(got, "calls 10 failed 0 local 0 paid 4 resumed 0 partial 2,") || !strings.Contains(got, "cost 0 unknown 4,") {
		t.Error(got)
	}
}

// TestLargeImage: an image is passed on while it arrives, and its usage is counted, be it
// before the image or after it.
func TestLargeImage(t *testing.T) {
	text := strings.Repeat("iVBORw0K", 100_000)
	const usage = `"usage":{"input_tokens":10,"output_tokens":4000,"total_tokens":4010}`
	for name, tc := range map[string]struct{ head, tail string }{
		"usage at the end":       {`{"created":1,"data":[{"b64_json":"` + text[:400_000], text[400_000:] + `"}],` + usage + `}`},
		"usage at the beginning": {`{"created":1,` + usage + `,"data":[{"b64_json":"` + text[:400_000], text[400_000:] + `"}]}`},
	} {
		t.Run(name, func(t *testing.T) { largeImage(t, tc.head, tc.tail) })
	}
}

// largeImage has an upstream send an answer in two parts, the second after the client has
// received most of the first.
func largeImage(t *testing.T, head, tail string) {
	begun := make(chan struct{})
	edit, acct := withLedger(t, budget.Limits{})
	b := newFixture(t, answers, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, head)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-begun:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, tail)
	}, edit)
	client := &http.Client{Timeout: waitLimit}
	resp, err := client.Post(b.url+"/v1/images/generations", "application/json", strings.NewReader(`{"model":"gpt-4o","prompt":"a cat"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 200_000)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	close(begun)
	rest, err := io.ReadAll(resp.Body)
	if err != nil || string(first)+string(rest) != head+tail {
		t.Errorf("%d bytes, %v", len(first)+len(rest), err)
	}
	if got := summary(usageBy(t, acct, ledger.ByRoute).Total); !strings.Contains(got, "tokens 10 (0 cached) + 4000, unknown 0, cost ") || strings.Contains(got, "unknown 1, saved") {
		t.Error(got)
	}
}

// TestImageEvents: a stream of images is complete when as many are as the call asks for.
func TestImageEvents(t *testing.T) {
	const partial = `data: {"type":"image_generation.partial_image","b64_json":"aa","partial_image_index":0}` + "\n\n"
	const completed = `data: {"type":"image_generation.completed","b64_json":"aaaa","usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}` + "\n\n"
	const failed = `data: {"type":"error","error":{"message":"blocked"}}` + "\n\n"
	for name, tc := range map[string]struct {
		n      string // the request's; "" = it does not say
		behave http.HandlerFunc
		status int
		clean  bool
	}{
		"complete":            {"", sends(ends, partial, completed), 200, true},
		"two images":          {"", sends(ends, completed, completed), 200, true},
		"with [DONE]":         {"", sends(ends, completed, doneEvent), 200, true},
		"cut":                 {"", sends(ends, partial), 200, false},
		"broken":              {"", sends(breaks, completed), 200, false},
		"failed":              {"", sends(ends, partial, failed), 200, false},
		"an error":            {"", sends(ends, failed), 502, true},
		"two of two":          {"2", sends(ends, partial, completed, completed), 200, true},
		"one of two":          {"2", sends(ends, partial, completed), 200, false},
		"one of two, at once": {"2", sends(ends, completed), 200, false},
		"fewer, with [DONE]":  {"2", sends(ends, completed, doneEvent), 200, true},
	} {
		b := newFixture(t, answers, tc.behave)
		asked, fields := `{"model":"gpt-4o","stream":true,"partial_images":1}`, []formPart{{"model", "", "gpt-4o"}, {"stream", "", "true"}, {"image", "a.png", "x"}}
		if tc.n != "" {
			asked, fields = strings.Replace(asked, "{", `{"n":`+tc.n+",", 1), append(fields, formPart{"n", "", tc.n})
		}
		text, contentType := form(t, fields...)
		for path, r := range map[string]reply{
			"/v1/images/generations": b.post("/v1/images/generations", asked), "/v1/images/edits": b.post("/v1/images/edits", text, "Content-Type", contentType),
		} {
			if r.status != tc.status || (r.readErr == nil) != tc.clean {
				t.Errorf("%s: %s: %d %s, %v", name, path, r.status, r.body, r.readErr)
			}
		}
	}
}

// TestFIM: Mistral's fill in the middle has the answers of a chat.
func TestFIM(t *testing.T) {
	edit, acct := withLedger(t, budget.Limits{})
	b := newFixture(t, answers, answers, edit)
	b.cloud.handler = b.cloud.answersInKind()
	for body, want := range map[string]string{`{"model":"gpt-4o","prompt":"a"}`: wholeChat, `{"model":"gpt-4o","prompt":"a","stream":true}`: wholeSSE} {
		if r := b.post("/v1/fim/completions", body); r.status != 200 || r.body != want || r.readErr != nil {
			t.Errorf("%s: %d %s, %v", body, r.status, r.body, r.readErr)
		}
	}
	if got := b.cloud.requests()[0]; got.path != "/api/v1/fim/completions" || gjson.GetBytes(got.body, "stream_options").Exists() {
		t.Errorf("%s %s", got.path, got.body)
	}
	if got := summary(usageBy(t, acct, ledger.ByRoute).Total); !strings.Contains(got, "tokens 14 (0 cached) + 6, unknown 0") {
		t.Error(got)
	}
}

// TestPassThroughBudget: a call whose price is unknown is reserved and charged at a high one.
func TestPassThroughBudget(t *testing.T) {
	edit, acct := withLedger(t, accountingtest.Daily("1"))
	b := newFixture(t, answers, status(200, `{"data":[{"url":"https://x"}]}`), edit)
	text, contentType := form(t, formPart{"model", "", "vendor/image"}, formPart{"n", "", "2"}, formPart{"image[]", "a.png", strings.Repeat("x", 3<<20)})
	if r := b.post("/v1/images/edits", text, "Content-Type", contentType); r.status != 429 {
		t.Errorf("two images over budget: %d %s", r.status, r.body)
	}
	if r := b.post("/v1/images/generations", `{"model":"vendor/image","n":1}`); r.status != 200 {
		t.Errorf("one image: %d %s", r.status, r.body)
	}
	if r := b.post("/v1/images/generations", `{"model":"vendor/image"}`); r.status != 429 {
		t.Errorf("another one: %d %s", r.status, r.body)
	}
	if got := summary(usageBy(t, acct, ledger.ByRoute).Total); !strings.Contains(got, "cost 0 unknown 1,") {
		t.Error(got)
	}
}

// TestPassThroughInOpenAISDK makes the calls with the official SDK.
func TestPassThroughInOpenAISDK(t *testing.T) {
	png := bytes.Repeat([]byte("\x89PNG\r\n--\x00"), 1000)
	b := newFixture(t, answers, nil)
	b.cloud.handler = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/api/v1/images/generations":
			if isStreaming(r, b.cloud.lastBody()) {
				sends(ends, `data: {"type":"image_generation.partial_image","b64_json":"aa"}`+"\n\n", `data: {"type":"image_generation.completed","b64_json":"aaaa"}`+"\n\n")(w, r)
				return
			}
			fmt.Fprintf(w, `{"created":1,"data":[{"b64_json":%q}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}`, base64.StdEncoding.EncodeToString(png))
		case "/api/v1/images/edits":
			fmt.Fprintf(w, `{"created":1,"data":[{"url":"%t"}]}`, bytes.Contains(b.cloud.lastBody(), png) && bytes.Contains(b.cloud.lastBody(), []byte("openai/gpt-4o")))
		case "/api/v1/audio/speech":
			w.Header().Set("Content-Type", "audio/mpeg")
			_, _ = w.Write(png)
		case "/api/v1/moderations":
			_, _ = io.WriteString(w, `{"id":"m","model":"omni","results":[{"flagged":true}]}`)
		}
	}
	client := openai.NewClient(option.WithBaseURL(b.url+"/v1"), option.WithAPIKey("k"), option.WithMaxRetries(0))
	image, err := client.Images.Generate(t.Context(), openai.ImageGenerateParams{Prompt: "a cat", Model: "gpt-4o"})
	if err != nil || image.Data[0].B64JSON != base64.StdEncoding.EncodeToString(png) || image.Usage.OutputTokens != 2 {
		t.Errorf("image: %+v, %v", image, err)
	}
	edited, err := client.Images.Edit(t.Context(), openai.ImageEditParams{
		Prompt: "a hat", Model: "gpt-4o", Image: openai.ImageEditParamsImageUnion{OfFile: openai.File(bytes.NewReader(png), "cat.png", "image/png")},
	})
	if err != nil || edited.Data[0].URL != "true" {
		t.Errorf("edit: %+v, %v", edited, err)
	}
	stream, events := client.Images.GenerateStreaming(t.Context(), openai.ImageGenerateParams{Prompt: "a cat", Model: "gpt-4o", PartialImages: openai.Int(1)}), ""
	for stream.Next() {
		events += stream.Current().Type + " "
	}
	if stream.Err() != nil || events != "image_generation.partial_image image_generation.completed " {
		t.Errorf("stream: %s, %v", events, stream.Err())
	}
	speech, err := client.Audio.Speech.New(t.Context(), openai.AudioSpeechNewParams{Input: "hi", Model: "gpt-4o", Voice: openai.AudioSpeechNewParamsVoiceUnion{OfString: openai.String("alloy")}})
	if err != nil {
		t.Fatal(err)
	}
	defer speech.Body.Close()
	if audio, err := io.ReadAll(speech.Body); err != nil || !bytes.Equal(audio, png) || speech.Header.Get("Content-Type") != "audio/mpeg" {
		t.Errorf("speech: %d bytes, %v", len(audio), err)
	}
	checked, err := client.Moderations.New(t.Context(), openai.ModerationNewParams{Model: "gpt-4o", Input: openai.ModerationNewParamsInputUnion{OfString: openai.String("x")}})
	if err != nil || !checked.Results[0].Flagged {
		t.Errorf("moderation: %+v, %v", checked, err)
	}
}
