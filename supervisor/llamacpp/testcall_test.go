package llamacpp

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/demo/demotest"
	"github.com/llmsup/llmsup/supervisor"
)

// TestWithoutCompletions runs the real llama-server for models and flags with which it answers
// no completions, or not only those. A question that it cannot answer makes no healthy
// process end: asked for a completion, a decoder with --embeddings crashes.
func TestWithoutCompletions(t *testing.T) {
	embeds, ranks, counts := demotest.Encoder(t, demo.Encoder{}), demotest.Encoder(t, demo.Encoder{Ranker: true}), demoModel(t)
	both := []models.Ability{models.Chat, models.Completion}
	const embedding, reranking = "/v1/embeddings", "/v1/rerank"
	for name, tt := range map[string]struct {
		model, args string
		path        string // that answers; "" = /embedding alone
		can         []models.Ability
		ctx         int
	}{
		"an encoder":                      {embeds, "--embeddings", embedding, []models.Ability{models.Embedding}, 512},
		"an encoder without flags":        {embeds, "", embedding, []models.Ability{models.Embedding}, 512},
		"an encoder with several slots":   {embeds, "--embeddings --parallel 2", embedding, []models.Ability{models.Embedding}, 512},
		"embeddings of single tokens":     {embeds, "--embeddings --pooling none", "", []models.Ability{models.Embedding}, 512},
		"a ranker":                        {ranks, "--reranking", reranking, []models.Ability{models.Rerank}, 512},
		"a ranker without flags":          {ranks, "", reranking, []models.Ability{models.Rerank}, 512},
		"a decoder restricted":            {counts, "--embeddings", "", []models.Ability{models.Embedding}, 1024},
		"a decoder that does both":        {counts, "--embeddings --pooling last", embedding, append(both[:2:2], models.Embedding), 1024},
		"a decoder that ranks, by a flag": {counts, "--reranking", reranking, append(both[:2:2], models.Rerank), 1024},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := run(t, supervisor.Spec{Binary: llamaServer(t), Model: tt.model, CtxSize: 1024, Args: strings.Fields(tt.args)})
			now := await(t, s, "ready or an exit", readyOrExited)
			if !isReady(now) || now.CtxSize != tt.ctx {
				t.Fatalf("it is %s with a context of %d, last exit %+v; want ready, %d", now.State, now.CtxSize, now.LastExit, tt.ctx)
			}
			if d := now.Description; !reflect.DeepEqual(d.Abilities, tt.can) || d.CtxSize != tt.ctx {
				t.Errorf("its model can do %v in %d tokens, want %v in %d", d.Abilities, d.CtxSize, tt.can, tt.ctx)
			}
			wantCall(t, now, tt.path)
			wantWork(t, s)

			s.Drain(supervisor.DrainOptions{Keep: true, Reason: "kept"})
			await(t, s, "drained", func(n *supervisor.Snapshot) bool { return n.State == supervisor.Drained })
			s.Resume()
			if again := await(t, s, "resumed", readyOrExited); again.PID != now.PID || again.LastExit != nil {
				t.Fatalf("the resumed process %d is another one than %d; last exit %+v", again.PID, now.PID, again.LastExit)
			}
			if err := s.Verify(t.Context()); err != nil {
				t.Error(err)
			}
			s.Restart()
			if again := await(t, s, "another process", func(n *supervisor.Snapshot) bool {
				return hasExited(n) || isReady(n) && n.PID != now.PID
			}); again.LastExit != nil {
				t.Errorf("after a restart its last exit is %+v", again.LastExit)
			}
		})
	}
}

// wantCall checks the answer at a path: of three texts the first two are alike.
func wantCall(t *testing.T, now *supervisor.Snapshot, path string) {
	t.Helper()
	ask := func(path, body string) gjson.Result {
		status, answer, err := newProbe(now.Endpoint, models.Description{}, time.Minute).do(t.Context(), http.MethodPost, path, body)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s answered %d %s %v", path, status, answer, err)
		}
		return gjson.ParseBytes(answer)
	}
	switch path {
	case "":
		ask("/embedding", `{"content":"cat"}`)
	case "/v1/embeddings":
		if n := len(ask(path, `{"input":["cat","act","dog"]}`).Get("data.#.embedding").Array()); n != 3 {
			t.Errorf("%d embeddings of 3 texts", n)
		}
	case "/v1/rerank":
		if n := len(ask(path, `{"query":"q","documents":["no no","yes yes"]}`).Get("results").Array()); n != 2 {
			t.Errorf("%d ranks of 2 documents", n)
		}
	}
}

// wantWork checks that the engine's counters show that it works, so that a server that
// computes embeddings is not taken for one that hangs.
func wantWork(t *testing.T, s *supervisor.Server) {
	t.Helper()
	now := s.Snapshot()
	p := newProbe(now.Endpoint, *now.Description, 10*time.Second)
	before := p.Sample(t.Context())
	if err := p.TestCall(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the counters to change", func() bool {
		after := p.Sample(t.Context())
		return after.WorkKnown && after.EngineAnswers && after.Work != before.Work
	})
}

// TestOnlyEmbeds: a model about which nothing is known is asked for a completion, and, if the
// server was started for embeddings alone, for an embedding.
func TestOnlyEmbeds(t *testing.T) {
	s, _ := runRole(t, "only embeds", supervisor.Spec{})
	now := await(t, s, "ready", isReady)
	if want := []models.Ability{models.Embedding}; !reflect.DeepEqual(now.Description.Abilities, want) {
		t.Errorf("its model can do %v, want %v", now.Description.Abilities, want)
	}
}

func TestTestCall(t *testing.T) {
	type answer struct {
		status  int
		message string
	}
	ok, logits := answer{200, ""}, answer{500, "the current context does not support logits computation. skipping"}
	noEmbeddings := answer{501, "This server does not support embeddings. Start it with `--embeddings`"}
	noRanks := answer{501, "This server does not support reranking. Start it with `--reranking`"}
	generates := []models.Ability{models.Chat, models.Completion, models.Tools}
	embeds := []models.Ability{models.Embedding}
	for name, tt := range map[string]struct {
		known   []models.Ability
		answers map[string]answer // by path; others: 404
		asked   string
		can     []models.Ability
		err     string // part of it
	}{
		"a completion":            {generates, map[string]answer{"/completion": ok}, "/completion", generates, ""},
		"an embedding":            {embeds, map[string]answer{"/embedding": ok, "/completion": ok}, "/embedding", embeds, ""},
		"a rank":                  {[]models.Ability{models.Rerank}, map[string]answer{"/v1/rerank": ok}, "/v1/rerank", []models.Ability{models.Rerank}, ""},
		"unknown":                 {nil, map[string]answer{"/completion": ok}, "/completion", generates[:2], ""},
		"unknown, an encoder":     {nil, map[string]answer{"/completion": logits, "/embedding": ok}, "/completion /embedding", embeds, ""},
		"an older build's answer": {nil, map[string]answer{"/completion": {500, "the current context does not logits computation. skipping"}, "/embedding": ok}, "/completion /embedding", embeds, ""},
		"unknown, a ranker": {
			nil,
			map[string]answer{"/completion": logits, "/embedding": noEmbeddings, "/v1/rerank": ok},
			"/completion /embedding /v1/rerank",
			[]models.Ability{models.Rerank},
			"",
		},
		"taken for a decoder": {generates, map[string]answer{"/completion": logits, "/embedding": ok}, "/completion /embedding", embeds, ""},
		"taken for an encoder": {
			embeds, map[string]answer{"/embedding": noEmbeddings, "/completion": ok}, "/embedding /completion", generates[:2], "",
		},
		"an error is no refusal": {embeds, map[string]answer{"/embedding": {500, "Compute error."}}, "/embedding", embeds, "/embedding answered 500: Compute error."},
		"nothing": {
			nil,
			map[string]answer{"/completion": logits, "/embedding": noEmbeddings, "/v1/rerank": noRanks},
			"/completion /embedding /v1/rerank", nil,
			"it supports no call: /completion answered 500: the current context does not support logits computation. skipping; " +
				"/embedding answered 501: This server does not support embeddings. Start it with `--embeddings`; /v1/rerank answered 501: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.URL.Path)
				a, known := tt.answers[r.URL.Path]
				if !known {
					a.status = http.StatusNotFound
				}
				w.WriteHeader(a.status)
				_, _ = w.Write([]byte(`{"error":{"message":"` + a.message + `"}}`))
			}))
			defer server.Close()
			p := newProbe(supervisor.Endpoint{Network: "tcp", Address: server.Listener.Addr().String()}, models.Description{Abilities: tt.known}, time.Minute)
			err := p.TestCall(t.Context())
			switch {
			case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error %v, want %q", err, tt.err)
			case errors.Is(err, supervisor.ErrServesNothing) != (name == "nothing"):
				t.Errorf("%v is of the wrong kind", err)
			}
			if got := strings.Join(asked, " "); got != tt.asked {
				t.Errorf("asked %s, want %s", got, tt.asked)
			}
			if got := p.description().Abilities; len(got)+len(tt.can) > 0 && !reflect.DeepEqual(got, tt.can) {
				t.Errorf("its model can do %v, want %v", got, tt.can)
			}
		})
	}
}

func TestRefine(t *testing.T) {
	chat := []models.Ability{models.Chat, models.Completion}
	for name, tt := range map[string]struct {
		known []models.Ability
		props string
		want  []models.Ability
		ctx   int
	}{
		"an older build":   {append(chat[:2:2], models.Tools), `{"total_slots":1}`, append(chat[:2:2], models.Tools), 100},
		"a larger context": {chat, `{"default_generation_settings":{"n_ctx":256}}`, chat, 256},
		"images":           {chat, `{"modalities":{"vision":true,"audio":false}}`, append(chat[:2:2], models.Vision), 100},
		"no tools":         {append(chat[:2:2], models.Tools), `{"chat_template_caps":{"supports_tools":false}}`, chat, 100},
		"tools after all":  {chat, `{"chat_template_caps":{"supports_tools":true}}`, append(chat[:2:2], models.Tools), 100},
		"only for chats":   {[]models.Ability{models.Embedding}, `{"chat_template_caps":{"supports_tools":true}}`, []models.Ability{models.Embedding}, 100},
	} {
		t.Run(name, func(t *testing.T) {
			got := refine(models.Description{Abilities: tt.known, CtxSize: 100}, gjson.Parse(tt.props))
			if !reflect.DeepEqual(got.Abilities, tt.want) || got.CtxSize != tt.ctx {
				t.Errorf("%v, %d; want %v, %d", got.Abilities, got.CtxSize, tt.want, tt.ctx)
			}
		})
	}
}
