package router

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// TestUsageFilter: the ledger has the usage that the client did not ask for, and the
// client receives the stream without it.
func TestUsageFilter(t *testing.T) {
	const (
		finish  = `data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"id":"x"}` + "\n\n"
		timed   = `data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"id":"x","timings":{"prompt_n":3,"cache_n":4,"predicted_n":3}}` + "\n\n"
		usage   = `data: {"choices":[],"id":"x","usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}},"timings":{"prompt_n":3,"cache_n":4,"predicted_n":3}}` + "\n\n"
		verbose = `data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"id":"x","__verbose":{"timings":{"prompt_n":3}}}` + "\n\n"
		timings = `,"timings":{"prompt_n":3,"cache_n":4,"predicted_n":3}`
		ping    = ":\n\n"
		several = "tokens 7 (4 cached) + 6"
		one     = "tokens 7 (4 cached) + 3"
	)
	for name, tc := range map[string]struct {
		sent   string
		want   string
		tokens string
	}{
		"as llama-server":        {roleEvent + textEvent + finish + usage + doneEvent, roleEvent + textEvent + timed + doneEvent, one},
		"a ping in between":      {roleEvent + textEvent + finish + ping + usage + doneEvent, roleEvent + textEvent + ping + timed + doneEvent, one},
		"two choices":            {textEvent + finish + usage + textEvent + finish + usage + doneEvent, textEvent + timed + textEvent + timed + doneEvent, several},
		"nothing but its finish": {roleEvent + finish + usage + doneEvent, roleEvent + timed + doneEvent, one},
		"no usage":               {roleEvent + textEvent + timed + doneEvent, roleEvent + textEvent + timed + doneEvent, one},
		"others deeper inside":   {textEvent + verbose + usage + doneEvent, textEvent + strings.Replace(verbose, "}}\n", "}"+timings+"}\n", 1) + doneEvent, one},
		"timings where they are": {textEvent + timed + usage + doneEvent, textEvent + timed + doneEvent, one},
	} {
		for _, asked := range []bool{false, true} {
			edit, acct := withLedger(t, budget.Limits{})
			b := newFixture(t, sendsStream(tc.sent), nil, edit)
			b.state.edit(func(s *backend.LocalState) { s.SupportsAggregation = true })
			body := `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`
			want := tc.want
			if asked {
				body = strings.Replace(body, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
				want = tc.sent
			}
			r := b.post("/v1/chat/completions", body)
			if r.body != want || r.readErr != nil {
				t.Errorf("%s, asked %t:\n got %q\nwant %q", name, asked, r.body, want)
			}
			if sent := string(b.local.requests()[0].body); !gjson.Get(sent, "stream_options.include_usage").Bool() || asked && sent != strings.Replace(body, "local/qwen", "qwen", 1) {
				t.Errorf("%s, asked %t: the server was sent %s", name, asked, sent)
			}
			got := summary(usageBy(t, acct, ledger.ByRoute).Total)
			if !strings.Contains(got, tc.tokens) {
				t.Errorf("%s, asked %t: the ledger has %s, want %s", name, asked, got, tc.tokens)
			}
		}
	}
}

// TestTruncatedBeforeUsage: a finish reason that was held back when the stream broke is
// sent, once.
func TestTruncatedBeforeUsage(t *testing.T) {
	b := newFixture(t, sends(breaks, firstChunk, textChunk(" one two three four"), finishChunk("stop")), answers, withResume)
	b.state.edit(func(s *backend.LocalState) { s.SupportsAggregation = true })
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`)
	if n := strings.Count(r.body, `"finish_reason":"stop"`); n != 1 || !strings.HasSuffix(r.body, doneEvent) || len(b.cloud.requests()) != 0 {
		t.Errorf("%d finishes, %d calls of the cloud: %s", n, len(b.cloud.requests()), r.body)
	}
}

// volatileFields are the fields of a real stream that differ from call to call.
var volatileFields = regexp.MustCompile(`"(id|created|[a-z_]+_(ms|second))":("[^"]*"|[0-9.e-]+)`)

// TestUsageFilterWithEngine: the stream of a real llama-server reaches the client as if
// its usage had not been asked for.
func TestUsageFilterWithEngine(t *testing.T) {
	e := startEngine(t)
	for _, body := range []string{
		`{"model":"demo","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"count"}],"cache_prompt":false}`,
		`{"model":"demo","stream":true,"max_tokens":3,"n":2,"messages":[{"role":"user","content":"count"}],"cache_prompt":false}`,
		`{"model":"demo","stream":true,"max_tokens":1,"messages":[{"role":"user","content":"count"}],"cache_prompt":false,"stream_options":{"include_usage":false}}`,
	} {
		plainBody := e.streamBody("/v1/chat/completions", body)
		b, err := request.ParseBody([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		form, ok := aggregate.WithUsage(b, "/v1/chat/completions")
		if !ok {
			t.Fatalf("no form for %s", body)
		}
		asked, err := io.ReadAll(form.WithModel("demo").Open())
		if err != nil {
			t.Fatal(err)
		}
		counted := e.streamBody("/v1/chat/completions", string(asked))
		if !strings.Contains(counted, `"usage"`) {
			t.Fatalf("no usage, though it was asked for: %s", counted)
		}
		filter := aggregate.UsageFilter{Local: true}
		var out strings.Builder
		for events := wire.NewEventReader(strings.NewReader(counted)); ; {
			next, err := events.Next()
			if err != nil {
				break
			}
			out.Write(filter.Pass(next))
		}
		same := func(s string) string { return volatileFields.ReplaceAllString(s, `"$1":0`) }
		if strings.Contains(body, `"n":2`) { // their tokens come in any order
			if strings.Contains(out.String(), `"usage"`) || strings.Count(out.String(), `"timings"`) != strings.Count(plainBody, `"timings"`) {
				t.Errorf("%s\n got %s\nwant %s", body, out.String(), plainBody)
			}
			continue
		}
		if same(out.String()) != same(plainBody) {
			t.Errorf("%s\n got %s\nwant %s", body, same(out.String()), same(plainBody))
		}
	}
}

// streamBody returns what the engine streams.
func (e engine) streamBody(path, body string) string {
	e.t.Helper()
	resp, err := e.client.Post("http://llama-server"+path, "application/json", strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		e.t.Fatalf("%d %v: %s", resp.StatusCode, err, raw)
	}
	return string(raw)
}
