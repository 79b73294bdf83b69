package router

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

const (
	boundCall  = `{"model":"local/qwen","messages":[],"grammar":"root ::= \"a\""}`
	badGrammar = `{"error":{"code":400,"message":"Failed to initialize samplers: failed to parse grammar","type":"invalid_request_error"}}`
)

// TestLlamaFieldRejected: a local server's 400 about a field that only llama-server knows
// goes to the client; every other error moves the call.
func TestLlamaFieldRejected(t *testing.T) {
	const named = `{"error":{"code":400,"message":"Field 'cache_prompt': type must be boolean","type":"invalid_request_error"}}`
	const unnamed = `{"error":{"code":400,"message":"[json.exception.type_error.302] type must be string, but is null","type":"invalid_request_error"}}`
	const about = `{"error":{"code":400,"message":"image input is not supported","type":"invalid_request_error"}}`
	for name, tc := range map[string]struct {
		local http.HandlerFunc
		call  string
		moves bool
	}{
		"a grammar":                        {status(400, badGrammar), boundCall, false},
		"named":                            {status(400, named), `{"model":"local/qwen","messages":[],"cache_prompt":"x"}`, false},
		"in a stream":                      {status(400, named), `{"model":"local/qwen","messages":[],"cache_prompt":"x","stream":true}`, false},
		"a schema":                         {status(400, strings.Replace(badGrammar, "failed to parse grammar", "JSON schema error at #", 1)), strings.Replace(boundCall, "grammar", "json_schema", 1), false},
		"reasoning_format null":            {status(400, unnamed), `{"model":"local/qwen","messages":[],"reasoning_format":null}`, false},
		"continue_final_message []":        {status(400, strings.Replace(unnamed, "[json", "Invalid continue_final_message: [json", 1)), `{"model":"local/qwen","messages":[],"continue_final_message":[]}`, false},
		"neither":                          {status(400, unnamed), `{"model":"local/qwen","messages":[]}`, true},
		"about a field that others know":   {status(400, about), `{"model":"local/qwen","messages":[],"cache_prompt":true}`, true},
		"a field that others know, named":  {status(400, strings.Replace(named, "cache_prompt", "top_p", 1)), `{"model":"local/qwen","messages":[],"top_p":"x"}`, true},
		"another status":                   {status(422, named), `{"model":"local/qwen","messages":[],"cache_prompt":"x"}`, true},
		"too long":                         {status(400, `{"error":{"type":"exceed_context_size_error","message":"Field 'cache_prompt'"}}`), nonStreamingCall, true},
		"the server's own error":           {status(500, `{"error":{"code":500,"message":"Field 'cache_prompt': x","type":"server_error"}}`), nonStreamingCall, true},
		"a grammar that is switched off":   {status(400, badGrammar), `{"model":"local/qwen","messages":[],"grammar":""}`, true},
		"a grammar that the path does not": {status(400, badGrammar), `{"model":"local/qwen","messages":[],"grammar":null}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, tc.local, answers)
			r := b.post("/v1/chat/completions", tc.call)
			if tc.moves != (r.backend() == "openrouter") || tc.moves != (len(b.cloud.requests()) == 1) {
				t.Errorf("%d from %q after %d calls of the cloud: %s", r.status, r.backend(), len(b.cloud.requests()), r.body)
			}
			if !tc.moves && (r.status != 400 || r.reason() != "" || gjson.Get(r.body, "error.type").Str != "invalid_request_error") {
				t.Errorf("%d, %q: %s", r.status, r.reason(), r.body)
			}
		})
	}
}

// TestLlamaFieldRejectedByPrimary: the next local server is not asked either.
func TestLlamaFieldRejectedByPrimary(t *testing.T) {
	b := newFixture(t, status(400, badGrammar), answers, twoLocals)
	if r := b.post("/v1/chat/completions", boundCall); r.status != 400 || r.body != badGrammar || len(b.local.requests()) != 1 {
		t.Errorf("%d after %d calls: %s", r.status, len(b.local.requests()), r.body)
	}
	for i, behave := range []http.HandlerFunc{
		status(500, `{}`), status(400, `{"error":{"code":400,"message":"image input is not supported","type":"invalid_request_error"}}`),
	} {
		b.local.handler = behave
		if b.post("/v1/chat/completions", boundCall); len(b.local.requests()) != 3+2*i {
			t.Errorf("%d calls; an error that is not about the field moves the call to a server that knows it", len(b.local.requests()))
		}
	}
}

// twoLocals gives local/qwen a second local server as its fallback.
func twoLocals(c *plan.Config, routes map[string]models.Route) {
	c.Locals["other"] = c.Locals["qwen"]
	routes["local/qwen"] = models.Route{Primary: "qwen", Fallback: "other", Timeout: time.Minute}
}

// TestBoundCallNeverMovesToUpstream: a call that depends on a field that only llama-server knows never
// moves to an upstream.
func TestBoundCallNeverMovesToUpstream(t *testing.T) {
	drained := func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = backend.Drained, "is drained", false }
	const broken = `{"error":{"code":500,"message":"the engine failed","type":"server_error"}}`
	for name, tc := range map[string]struct {
		local  http.HandlerFunc
		state  func(*backend.LocalState)
		status int
		code   string
		reason string
	}{
		"drained":   {answers, drained, 503, "drained", "unsupported"},
		"its error": {status(500, broken), nil, 500, "500", "unsupported"},
		"too long":  {status(400, `{"error":{"code":400,"type":"exceed_context_size_error","message":"too long"}}`), nil, 400, "400", "unsupported"},
		"lost":      {breaks, nil, 502, "lost", "unsupported"},
		"degraded":  {answers, func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded" }, 200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, tc.local, answers)
			if tc.state != nil {
				b.state.edit(tc.state)
			}
			r := b.post("/v1/chat/completions", boundCall)
			if r.status != tc.status || gjson.Get(r.body, "error.code").String() != tc.code || r.reason() != tc.reason || len(b.cloud.requests()) != 0 {
				t.Errorf("%d, reason %q after %d calls of the cloud: %s", r.status, r.reason(), len(b.cloud.requests()), r.body)
			}
			if tc.reason != "" && !strings.Contains(b.log.String(), `"reason":"unsupported"`) {
				t.Errorf("the log has another reason: %s", b.log)
			}
			if tc.code == "drained" || tc.code == "lost" {
				if message := gjson.Get(r.body, "error.message").Str; !strings.Contains(message, `fallback openrouter does not support "grammar" (llama-server only)`) {
					t.Errorf("the error does not name the field: %s", message)
				}
			}
		})
	}
	t.Run("its time is over", func(t *testing.T) {
		b := newFixture(t, hangs, answers, withTimeout(200*time.Millisecond))
		if r := b.post("/v1/chat/completions", boundCall); r.status != 504 || r.reason() != "unsupported" || len(b.cloud.requests()) != 0 {
			t.Errorf("%d, %q: %s", r.status, r.reason(), r.body)
		}
	})
	t.Run("its stream breaks", func(t *testing.T) {
		b := newFixture(t, sends(breaks, roleEvent, textEvent), answers, withResume)
		r := b.post("/v1/chat/completions", strings.Replace(boundCall, `{`, `{"stream":true,"max_tokens":9,`, 1))
		if r.readErr == nil || !strings.Contains(r.body, `"code":"lost"`) || len(b.cloud.requests()) != 0 {
			t.Errorf("%v after %d calls of the cloud: %s", r.readErr, len(b.cloud.requests()), r.body)
		}
	})
	t.Run("it waits", func(t *testing.T) {
		b := newFixture(t, answers, answers)
		b.state.transition(loading)
		done := make(chan reply, 1)
		go func() { done <- b.post("/v1/chat/completions", boundCall) }()
		eventually(t, "the call waits, or has moved", func() bool { return b.router.Load("qwen").Queued > 0 || len(b.cloud.requests()) > 0 })
		b.state.transition(ready)
		if r := <-done; r.status != 200 || r.backend() != "qwen" || r.reason() != "" || len(b.cloud.requests()) != 0 {
			t.Errorf("%d from %q, %q: %s", r.status, r.backend(), r.reason(), r.body)
		}
	})
	t.Run("an upstream first", func(t *testing.T) {
		b := newFixture(t, answers, answers)
		r := b.post("/v1/chat/completions", strings.Replace(boundCall, "local/qwen", "gpt-4o", 1))
		if r.status != 200 || r.backend() != "openrouter" || !strings.Contains(string(b.cloud.lastBody()), `"grammar"`) {
			t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
		}
	})
}

// newEngineFixture is a fixture whose local server is a real llama-server.
func newEngineFixture(t *testing.T, e engine, edits ...func(*plan.Config, map[string]models.Route)) *fixture {
	t.Helper()
	b := newFixture(t, nil, answers, edits...)
	b.state.edit(func(s *backend.LocalState) { s.Network, s.Address, s.SupportsAggregation = "unix", e.socket, true })
	return b
}

// How llama-server treats a value that it cannot use.
const (
	rejects = 400 // with an error that goes to the client
	fails   = 500 // with an error of its own, which moves a call that may move
	ignores = 200
)

// llamaFieldCalls are the expected values of TestLlamaFields: for each field of the
// table a value that llama-server can use, one that it cannot, what it does with that
// one, and whether the first has an effect on the answer, or on the settings and
// counters in the answer.
var llamaFieldCalls = map[string]struct {
	valid, invalid string
	then           int
	effect         bool
}{
	"n_predict":              {`2`, `"x"`, rejects, true},
	"t_max_predict_ms":       {`60000`, `"x"`, rejects, false},
	"n_indent":               {`2`, `"x"`, rejects, false},
	"n_cmpl":                 {`2`, `"x"`, rejects, true},
	"ignore_eos":             {`true`, `"x"`, rejects, true},
	"grammar":                {`"root ::= \"abc\""`, `"root ::= nothing"`, rejects, true},
	"json_schema":            {`{"type":"null"}`, `{"type":"nonsense"}`, rejects, true},
	"lora":                   {`[{"id":0,"scale":1}]`, `5`, rejects, true},
	"samplers":               {`["top_k"]`, `5`, ignores, true},
	"mirostat":               {`2`, `"x"`, rejects, true},
	"typical_p":              {`0.5`, `"x"`, rejects, true},
	"top_n_sigma":            {`2`, `"x"`, rejects, true},
	"dynatemp_range":         {`0.5`, `"x"`, rejects, true},
	"xtc_probability":        {`0.5`, `"x"`, rejects, true},
	"dry_multiplier":         {`0.5`, `"x"`, rejects, true},
	"repeat_penalty":         {`1.5`, `"x"`, rejects, true},
	"min_keep":               {`3`, `"x"`, rejects, true},
	"adaptive_target":        {`0.5`, `"x"`, rejects, true},
	"logit_bias":             {`[[" 1",5]]`, `[["nothing",1]]`, ignores, true},
	"n_probs":                {`2`, `"x"`, rejects, true},
	"chat_template_kwargs":   {`{"a":1}`, `{"enable_thinking":"x"}`, rejects, false}, // the model's template has no use for it
	"add_generation_prompt":  {`false`, `"x"`, ignores, true},
	"continue_final_message": {`"content","add_generation_prompt":false`, `"x"`, rejects, true},
	"reasoning_format":       {`"none"`, `"x"`, fails, true},
	"response_format":        {`{"type":"json_object","schema":{"type":"null"}}`, `{"type":"json_object","schema":{"type":"nonsense"}}`, rejects, true},
	"thinking_budget_tokens": {`5`, `"x"`, ignores, false}, // the model does not think

	"repeat_last_n":         {`5`, `"x"`, rejects, true},
	"mirostat_tau":          {`4`, `"x"`, rejects, true},
	"mirostat_eta":          {`0.5`, `"x"`, rejects, true},
	"dynatemp_exponent":     {`2`, `"x"`, rejects, true},
	"xtc_threshold":         {`0.5`, `"x"`, rejects, true},
	"adaptive_decay":        {`0.5`, `"x"`, rejects, true},
	"dry_base":              {`2`, `"x"`, rejects, true},
	"dry_allowed_length":    {`3`, `"x"`, rejects, true},
	"dry_penalty_last_n":    {`5`, `"x"`, rejects, true},
	"dry_sequence_breakers": {`["a"]`, `5`, rejects, true},
	"post_sampling_probs":   {`true`, `"x"`, rejects, true},
	"grammar_lazy":          {`false`, `"x"`, ignores, false},
	"grammar_triggers":      {`[]`, `5`, ignores, false},
	"grammar_type":          {`"user"`, `5`, ignores, false},
	"preserved_tokens":      {`[]`, `5`, ignores, false},
	"cache_prompt":          {`true`, `"x"`, rejects, true},
	"id_slot":               {`1`, `"x"`, ignores, true},
	"n_cache_reuse":         {`1`, `"x"`, rejects, false},
	"n_keep":                {`1`, `"x"`, rejects, true},
	"n_discard":             {`1`, `"x"`, rejects, true},
	"backend_sampling":      {`false`, `"x"`, rejects, false},
	"timings_per_token":     {`true`, `"x"`, rejects, true},
	"return_progress":       {`true`, `"x"`, rejects, false},
	"return_tokens":         {`true`, `"x"`, rejects, true},
	"response_fields":       {`["content"]`, `5`, ignores, true},
	"verbose":               {`true`, `"x"`, rejects, false}, // which every call has here
	"sse_ping_interval":     {`5`, `"x"`, rejects, false},
	"speculative.n_max":     {`5`, `"x"`, ignores, false},
	"speculative.n_min":     {`5`, `"x"`, ignores, false},
	"speculative.p_min":     {`0.5`, `"x"`, ignores, false},
	"speculative.types":     {`"none"`, `5`, ignores, false},
	"chat_format":           {`1`, `"x"`, ignores, false},
	"parse_tool_calls":      {`false`, `"x"`, ignores, false},
	"reasoning_in_content":  {`true`, `"x"`, ignores, false},
	"reasoning_control":     {`true`, `"x"`, ignores, false},
}

// TestLlamaFields: with a real llama-server, which fields have an effect there, where
// a call with each is answered, and why.
func TestLlamaFields(t *testing.T) {
	e := startEngine(t)
	b := newEngineFixture(t, e)
	call := func(field, value string) reply {
		given := map[string]string{"id_slot": `0`, "cache_prompt": `false`, "seed": `1`, "verbose": `true`}
		if field != "" {
			given[field] = value
		}
		raw := `{"model":"local/qwen","max_tokens":6,"messages":[{"role":"user","content":"hi"}]`
		for name, value := range given {
			raw += `,` + wire.Quote(name) + `:` + value
		}
		return b.post("/v1/chat/completions", raw+"}")
	}
	plain := comparable(t, call("", "").body)
	for field, want := range map[string]string{"grammar": "abc", "n_predict": "1 2"} {
		if got := gjson.Get(call(field, llamaFieldCalls[field].valid).body, "choices.0.message.content").Str; got != want {
			t.Errorf("%s: the answer is %q, want %q", field, got, want)
		}
	}
	for name, field := range (llamacpp.Engine{}).Capabilities(nil).Fields {
		tc, ok := llamaFieldCalls[name]
		bound := field.Needed != nil && field.Needed(gjson.Parse(tc.valid))
		if name == "reasoning_budget_tokens" || name == "embd_normalize" { // of other paths
			continue
		}
		if !ok {
			t.Errorf("%s has no expected values", name)
			continue
		}
		b.state.edit(ready)
		before := len(b.cloud.requests())
		r := call(name, tc.valid)
		if r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
			t.Errorf("%s: %s: %d from %q, %q: %s", name, tc.valid, r.status, r.backend(), r.reason(), r.body)
		} else if effect := !reflect.DeepEqual(comparable(t, r.body), plain); effect != tc.effect {
			t.Errorf("%s: %s: has an effect: %t, want %t: %s", name, tc.valid, effect, tc.effect, r.body)
		}
		r = call(name, tc.invalid)
		switch {
		case tc.then == fails:
			if r.status != 200 || r.backend() != "openrouter" || r.reason() != "status" {
				t.Errorf("%s: %s: %d from %q, %q: %s", name, tc.invalid, r.status, r.backend(), r.reason(), r.body)
			}
			before++
		case r.status != tc.then || r.backend() != "qwen" || r.reason() != "":
			t.Errorf("%s: %s: %d from %q, %q: %s", name, tc.invalid, r.status, r.backend(), r.reason(), r.body)
		}
		if n := len(b.cloud.requests()) - before; n != 0 {
			t.Errorf("%s: the cloud was asked %d times", name, n)
		}
		// Without the server, a call moves to the cloud unless it depends on the field.
		b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = backend.Drained, "is drained", false })
		switch r = call(name, tc.valid); {
		case bound && (r.status != 503 || r.reason() != "unsupported" || gjson.Get(r.body, "error.code").Str != "drained" || !strings.Contains(r.body, name)):
			t.Errorf("%s: drained: %d from %q, %q: %s", name, r.status, r.backend(), r.reason(), r.body)
		case !bound && (r.status != 200 || r.backend() != "openrouter" || r.reason() != "drained"):
			t.Errorf("%s: drained: %d from %q, %q: %s", name, r.status, r.backend(), r.reason(), r.body)
		}
	}
}

// TestLlamaFieldErrorWithoutName: some errors of a real llama-server do not begin with the
// field's name. They go to the client, too.
func TestLlamaFieldErrorWithoutName(t *testing.T) {
	b := newEngineFixture(t, startEngine(t))
	for _, field := range []string{
		`"reasoning_format":null`, `"reasoning_format":5`, `"continue_final_message":{}`, `"continue_final_message":[]`, `"continue_final_message":""`,
		`"grammar":"root ::= nothing"`, `"json_schema":{"type":"nonsense"}`,
	} {
		r := b.post(chatPath, `{"model":"local/qwen","max_tokens":3,"messages":[{"role":"user","content":"hi"}],`+field+`}`)
		if r.status != 400 || r.backend() != "qwen" || r.reason() != "" || len(b.cloud.requests()) != 0 {
			t.Errorf("%s: %d from %q, %q after %d calls of the cloud: %s", field, r.status, r.backend(), r.reason(), len(b.cloud.requests()), r.body)
		}
	}
}

// TestLlamaFieldsByPath: a field binds a call at the paths at which a real
// llama-server reads it.
func TestLlamaFieldsByPath(t *testing.T) {
	e := startEngine(t)
	b := newEngineFixture(t, e)
	b.cloud.handler = status(200, `{"choices":[{"text":"c"}],"content":[],"output":[]}`)
	const hi = `"messages":[{"role":"user","content":"hi"}]`
	for _, tc := range []struct {
		path, call, field string
		text              string // where the answer has its text
		want              string // it, with the field
		bound             bool
	}{
		{textPath, `"prompt":" 5","max_tokens":3`, `"grammar":"root ::= \"abc\""`, "choices.0.text", "abc", true},
		{textPath, `"prompt":" 5","max_tokens":3`, `"n_predict":1`, "choices.0.text", " 6", true},
		{textPath, `"prompt":" 5","max_tokens":3`, `"chat_template_kwargs":{"a":1}`, "choices.0.text", " 6 7 8", false},
		{textPath, `"prompt":" 5","max_tokens":3`, `"reasoning_budget_tokens":5`, "choices.0.text", " 6 7 8", true},
		{"/v1/responses", `"input":"hi","max_output_tokens":3`, `"grammar":"root ::= \"abc\""`, "output.0.content.0.text", "abc", true},
		{"/v1/responses", `"input":"hi","max_output_tokens":3`, `"n_predict":1`, "output.0.content.0.text", "1", true},
		{"/v1/messages", hi + `,"max_tokens":3`, `"grammar":"root ::= \"abc\""`, "content.0.text", "1 2 3", false},
		{"/v1/messages", hi + `,"max_tokens":3`, `"n_predict":1`, "content.0.text", "1 2 3", false},
		{"/v1/messages", hi + `,"max_tokens":3`, `"chat_template_kwargs":{"a":1}`, "content.0.text", "1 2 3", true},
	} {
		call := `{"model":"local/qwen",` + tc.call + `,` + tc.field + `}`
		b.state.edit(ready)
		r := b.post(tc.path, call)
		if r.status != 200 || r.backend() != "qwen" || gjson.Get(r.body, tc.text).Str != tc.want || r.header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s %s: %d from %q: %s", tc.path, call, r.status, r.backend(), r.body)
		}
		b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = backend.Drained, "is drained", false })
		r = b.post(tc.path, call)
		if bound := r.status == 503 && r.reason() == "unsupported"; bound != tc.bound || !bound && r.backend() != "openrouter" {
			t.Errorf("%s %s: drained: %d from %q, %q: %s", tc.path, call, r.status, r.backend(), r.reason(), r.body)
		}
	}
}
