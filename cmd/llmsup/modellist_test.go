package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/tidwall/gjson"
)

// TestModelList: both SDKs see what the real llama-server can do, and what an upstream lists:
// as soon as its list has come, and at once after a restart.
func TestModelList(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(w, `{"data":[{"id":"vendor/big","name":"Vendor: Big","context_length":200000,"pricing":{"prompt":"0.000001","completion":"0"},
			"architecture":{"input_modalities":["text","image"],"output_modalities":["text"]},"supported_parameters":["tools"],"top_provider":{"max_completion_tokens":8192}}]}`)
	}))
	t.Cleanup(upstream.Close)
	config := newTestConfig(t, fmt.Sprintf("upstreams:\n  openrouter: {base_url: %q}\n", upstream.URL+"/api/v1"))
	dir := shortDir(t)
	args := []string{"--demo", "--config", config.path, "--", "--threads", "1"}
	in := launchIn(t, dir, nil, args...)
	in.awaitReady()
	about := func(id, field string) string {
		return gjson.Get(in.get("/v1/models"), `data.#(id="`+id+`").`+field).Raw
	}
	for field, want := range map[string]string{
		"status": `"ready"`, "context_length": "8192", "capabilities": `["chat","completion"]`, "owned_by": `"demo"`,
		"meta": `{"n_vocab":3262,"n_ctx":8192,"n_ctx_train":8192,"n_embd":64,"n_params":475200,"size":1900800}`, // as llama-server's own list has them
	} {
		if got := about("local/demo", field); got != want {
			t.Errorf("%s of the demo model: %s, want %s", field, got, want)
		}
	}
	if got := about("vendor/big", "id"); got != "" {
		t.Errorf("before the upstream has answered, the list has %s", got)
	}
	close(release)
	if !eventually(testTimeout, func() bool { return about("vendor/big", "capabilities") == `["chat","vision","tools"]` }) {
		t.Errorf("the upstream's list is not shown:\n%s", in.get("/v1/models"))
	}

	openaiClient := openai.NewClient(option.WithBaseURL(in.url+"/v1"), option.WithAPIKey("unused"))
	if m, err := openaiClient.Models.Get(t.Context(), "vendor/big"); err != nil || m.OwnedBy != "openrouter" {
		t.Errorf("%+v, %v", m, err)
	}
	anthropicClient := anthropic.NewClient(anthropicoption.WithBaseURL(in.url), anthropicoption.WithAPIKey("unused"))
	limits := map[string]string{}
	all := anthropicClient.Models.ListAutoPaging(t.Context(), anthropic.ModelListParams{Limit: anthropic.Int(2)})
	for all.Next() {
		m := all.Current()
		limits[m.ID] = fmt.Sprint(m.DisplayName, m.MaxInputTokens, m.MaxTokens)
	}
	if all.Err() != nil || limits["vendor/big"] != "Vendor: Big200000 8192" || limits["local/demo"] != "local/demo8192 0" {
		t.Errorf("%v, %v", limits, all.Err())
	}

	if code, out := in.run("drain", "--keep-server", "--yes"); code != 0 || about("local", "status") != `"drained"` {
		t.Errorf("drain: exit %d, the list has the status %s\n%s", code, about("local", "status"), out)
	}
	in.stop()
	upstream.CloseClientConnections()
	upstream.Close()
	in = launchIn(t, dir, nil, args...)
	if got := about("vendor/big", "context_length"); got != "200000" {
		t.Errorf("after a restart without the upstream, its model's context is %q", got)
	}
}
