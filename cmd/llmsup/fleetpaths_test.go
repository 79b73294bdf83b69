package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/demo/demotest"
	"github.com/llmsup/llmsup/router/ledger/ledgertest"
)

// launchBox starts a box of a fleet that others can reach. more is added to its llmsup.yaml.
func launchBox(t *testing.T, nats, name, more string, args ...string) *instance {
	t.Helper()
	file, port := filepath.Join(t.TempDir(), "llmsup.yaml"), fleettest.FreePort(t)
	fleetConfig(t, file, name, nats)
	own, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(own), "http://"+name+":8000", fmt.Sprintf("http://127.0.0.1:%d", port), 1) + more
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return launch(t, nil, append([]string{"--gpu", "none", "--config", file, "--listen", fmt.Sprintf("127.0.0.1:%d", port)}, args...)...)
}

// pathCall is a call at one path.
type pathCall struct {
	path, contentType, body string
}

// form makes a call with a file of some bytes.
func form(t *testing.T, path, model string, file []byte, fields ...string) pathCall {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", "a.wav")
	if err == nil {
		_, err = part.Write(file)
	}
	for i := 0; i < len(fields) && err == nil; i += 2 {
		err = w.WriteField(fields[i], fields[i+1])
	}
	if err == nil {
		err = w.WriteField("model", model)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return pathCall{path, w.FormDataContentType(), body.String()}
}

// pathCalls are the calls at all paths of models that are on one box.
func pathCalls(t *testing.T) map[string]pathCall {
	t.Helper()
	json := func(path, body string) pathCall { return pathCall{path, "application/json", body} }
	const image = `{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="}}`
	calls := map[string]pathCall{
		"chat":                json("/v1/chat/completions", `{"model":"local/demo","seed":1,"max_tokens":4,"messages":[{"role":"user","content":"count"}]}`),
		"chat, streamed":      json("/v1/chat/completions", `{"model":"local/demo","seed":1,"max_tokens":4,"stream":true,"messages":[{"role":"user","content":"count"}]}`),
		"chat with usage":     json("/v1/chat/completions", `{"model":"local/demo","max_tokens":4,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"count"}]}`),
		"two choices":         json("/v1/chat/completions", `{"model":"local/demo","max_tokens":4,"n":2,"messages":[{"role":"user","content":"count"}]}`),
		"logprobs":            json("/v1/chat/completions", `{"model":"local/demo","max_tokens":2,"logprobs":true,"top_logprobs":2,"messages":[{"role":"user","content":"count"}]}`),
		"a large body":        json("/v1/chat/completions", `{"model":"local/demo","max_tokens":4,"user":"`+strings.Repeat("x", 8<<20)+`","messages":[{"role":"user","content":"count"}]}`),
		"an image":            json("/v1/chat/completions", `{"model":"local/demo","max_tokens":4,"messages":[{"role":"user","content":[{"type":"text","text":"see"},`+image+`]}]}`),
		"too long":            json("/v1/chat/completions", `{"model":"local/demo","max_tokens":4,"messages":[{"role":"user","content":"`+strings.Repeat("1 2 3 ", 8000)+`"}]}`),
		"invalid":             json("/v1/chat/completions", `{"model":"local/demo","max_tokens":4,"messages":"count"}`),
		"completion":          json("/v1/completions", `{"model":"local/demo","max_tokens":4,"prompt":" 7"}`),
		"completion, stream":  json("/v1/completions", `{"model":"local/demo","max_tokens":4,"prompt":" 7","stream":true}`),
		"responses":           json("/v1/responses", `{"model":"local/demo","max_output_tokens":4,"input":"count"}`),
		"responses, streamed": json("/v1/responses", `{"model":"local/demo","max_output_tokens":4,"input":"count","stream":true}`),
		"messages":            json("/v1/messages", `{"model":"local/demo","max_tokens":4,"messages":[{"role":"user","content":"count"}]}`),
		"messages, streamed":  json("/v1/messages", `{"model":"local/demo","max_tokens":4,"stream":true,"messages":[{"role":"user","content":"count"}]}`),
		"count tokens":        json("/v1/messages/count_tokens", `{"model":"local/demo","messages":[{"role":"user","content":"count"}]}`),
		"own completion":      json("/completion", `{"model":"local/demo","n_predict":4,"prompt":" 7"}`),
		"own, streamed":       json("/completion", `{"model":"local/demo","n_predict":4,"prompt":" 7","stream":true}`),
		"own, without model":  json("/completion?model=local/demo", `{"n_predict":4,"prompt":" 7"}`),
		"infill":              json("/infill", `{"model":"local/demo","n_predict":4,"input_prefix":" 7","input_suffix":" 9"}`),
		"tokenize":            json("/tokenize", `{"model":"local/demo","content":" 7 8"}`),
		"detokenize":          json("/detokenize", `{"model":"local/demo","tokens":[5,6]}`),
		"template":            json("/apply-template", `{"model":"local/demo","messages":[{"role":"user","content":"count"}]}`),
		"embeddings":          json("/v1/embeddings", `{"model":"local/embeds","input":["cat","dog"]}`),
		"own embeddings":      json("/embedding", `{"model":"local/embeds","content":"cat"}`),
		"rerank":              json("/v1/rerank", `{"model":"local/ranks","query":"q","documents":["no no","yes yes"]}`),
		"images":              json("/v1/images/generations", `{"model":"local/media","prompt":"a cat","n":2}`),
		"speech":              json("/v1/audio/speech", `{"model":"local/media","input":"hi","voice":"alloy"}`),
		"moderation":          json("/v1/moderations", `{"model":"local/media","input":"hi"}`),
		"large recording":     form(t, "/v1/audio/translations", "local/media", make([]byte, 20<<20)),
		"an edited image":     form(t, "/v1/images/edits", "local/media", make([]byte, 1000), "prompt", "hat"),
	}
	if os.Getenv("LLMSUP_TEST_WHISPER_SERVER") != "" {
		calls["recording"] = form(t, "/v1/audio/transcriptions", "local/voice", silentWAV(1), "response_format", "verbose_json")
		calls["a long recording"] = form(t, "/v1/audio/transcriptions", "local/voice", silentWAV(60))
	}
	return calls
}

// changing are the parts of an answer that differ from call to call: identifiers, times and what
// a cache holds.
var changing = regexp.MustCompile(`("(?:id|item_id|created|created_at|completed_at|system_fingerprint|generation_settings)":)(?:"[^"]*"|[0-9.]+)|"timings":\{[^}]*\}|(chatcmpl|msg|resp|rs|fc|call)[-_][A-Za-z0-9_-]+|` +
	`"(?:tokens_cached|tokens_evaluated|cached_tokens|cache_read_input_tokens|input_tokens|id_slot|prompt_ms|predicted_ms)":[0-9.-]+|-?[0-9]\.[0-9]{5,}(?:e-?[0-9]+)?`)

func (c pathCall) make(t *testing.T, in *instance, id string) reply {
	t.Helper()
	r := in.request(http.MethodPost, c.path, c.body, "Content-Type", c.contentType, "Authorization", "Bearer client-secret", "X-Request-Id", id)
	r.body = changing.ReplaceAllString(r.body, "$1")
	return r
}

// TestPathsOnOtherBox: a call at each path has the same answer from the box that has the model, and
// through one that has not. It is recorded once, with the same figures.
func TestPathsOnOtherBox(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	key := fmt.Sprintf("keys: {tool: {sha256: %x, operator: true}}\n", sha256.Sum256([]byte("client-secret")))
	servers := fmt.Sprintf("servers:\n  demo: {model: %s}\n  embeds: {model: %s}\n  ranks: {model: %s}\n", demoModel(t), demotest.Encoder(t, demo.Encoder{}), demotest.Encoder(t, demo.Encoder{Ranker: true})) +
		engineServer("media", "--name, media")
	names := []string{"demo", "embeds", "ranks", "media"}
	if program := os.Getenv("LLMSUP_TEST_WHISPER_SERVER"); program != "" {
		names = append(names, "voice")
		servers += fmt.Sprintf("  voice: {command: [%s, --host, 127.0.0.1, --port, \"${PORT}\", --inference-path, /v1/audio/transcriptions, -m, %s, -t, \"1\", -nlp], slots: 1}\n", program, writeWhisperModel(t))
	}
	routes := "routes:\n"
	for _, name := range names {
		routes += fmt.Sprintf("  local/%s: {primary: %s}\n", name, name)
	}
	here := launchBox(t, nats.URL, "gpu1", key+servers)
	away := launchBox(t, nats.URL, "gpu2", key+routes)
	for i := range names {
		here.awaitServer(i, "ready", isReady)
	}
	if !eventually(testTimeout, func() bool {
		known, err := away.client.Boxes(t.Context())
		return err == nil && len(known.Boxes) == 2 && len(known.Boxes[1].Models) == len(names) &&
			!slices.ContainsFunc(known.Boxes[1].Models, func(m fleet.Model) bool { return m.State != "ready" })
	}) {
		t.Fatal("gpu2 does not know that the servers are ready")
	}
	n := 0
	for name, call := range pathCalls(t) {
		n++
		direct, hop := call.make(t, here, fmt.Sprint("direct-", n)), call.make(t, away, fmt.Sprint("hop-", n))
		if direct.status != hop.status || direct.body != hop.body || hop.readErr != nil {
			t.Errorf("%s: directly %d\n%s\nby a hop %d, %v\n%s", name, direct.status, direct.body, hop.status, hop.readErr, hop.body)
		}
		direct.header.Set("X-Llmsup-Backend", "gpu1/"+direct.backend())
		for _, header := range []string{"Date", "X-Request-Id", "Content-Length"} { // the length has that of numbers and times
			direct.header.Del(header)
			hop.header.Del(header)
		}
		if !reflect.DeepEqual(direct.header, hop.header) {
			t.Errorf("%s: directly the headers are %q, by a hop %q", name, direct.header, hop.header)
		}
	}
	direct, hop := rowsOf(t, here), rowsOf(t, away)
	if len(direct) != n || len(hop) != n {
		t.Errorf("%d and %d rows of %d calls each", len(direct), len(hop), n)
	}
	for id, row := range hop {
		other := direct[strings.Replace(id, "hop", "direct", 1)]
		if row.Status != other.Status || row.Key != other.Key || row.Paid || row.Partial || row.Charged != 0 {
			t.Errorf("the rows of a call differ: %+v, %+v", row, other)
		}
	}
}

// rowsOf returns the rows of a box's ledger by the ids of their requests, once all are committed.
func rowsOf(t *testing.T, in *instance) map[string]ledgertest.Call {
	t.Helper()
	if !eventually(testTimeout, func() bool {
		_, err := in.client.Usage(t.Context(), time.Now().Add(-time.Hour), time.Now().Add(time.Hour), "") // has the rows committed soon
		s, statusErr := in.client.Status(t.Context())
		return err == nil && statusErr == nil && s.Ledger.LagSeconds == 0
	}) {
		t.Fatal("the rows of the ledger are not committed")
	}
	rows := map[string]ledgertest.Call{}
	for _, row := range ledgertest.Calls(t, in.state) {
		if _, twice := rows[row.Request]; twice {
			t.Errorf("%s is recorded twice", row.Request)
		}
		rows[row.Request] = row
	}
	return rows
}
