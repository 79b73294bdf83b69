package price

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
)

func TestListedModels(t *testing.T) {
	text, both := []string{"text"}, []string{"text", "image"}
	for name, tc := range map[string]struct {
		entry string
		want  models.Listed
	}{
		"OpenRouter": {
			`{"id":"m","canonical_slug":"m-1","name":"V: M","created":1700000000,"description":"long","context_length":128000,"architecture":{"modality":"text+image->text","input_modalities":["text","image"],"output_modalities":["text"],"tokenizer":"GPT"},"top_provider":{"context_length":128000,"max_completion_tokens":16384},"per_request_limits":null,"supported_parameters":["tools","temperature"]}`,
			models.Listed{ID: "m", Name: "V: M", Created: 1700000000, Context: 128000, MaxOutput: 16384, Input: both, Output: text, Parameters: []string{"tools", "temperature"}, Abilities: []models.Ability{models.Chat, models.Vision, models.Tools}},
		},
		"OpenRouter, little known": {
			`{"id":"m","context_length":null,"architecture":{"input_modalities":["text","audio"],"output_modalities":["text"]},"top_provider":{"max_completion_tokens":null},"supported_parameters":[]}`,
			models.Listed{ID: "m", Input: []string{"text", "audio"}, Output: text, Abilities: []models.Ability{models.Chat, models.Audio}},
		},
		"makes images":    {`{"id":"m","architecture":{"input_modalities":["text"],"output_modalities":["image"]}}`, models.Listed{ID: "m", Input: text, Output: []string{"image"}}},
		"embeddings":      {`{"id":"m","architecture":{"output_modalities":["embeddings"]}}`, models.Listed{ID: "m", Output: []string{"embeddings"}, Abilities: []models.Ability{models.Embedding}}},
		"OpenAI":          {`{"id":"m","object":"model","created":5,"owned_by":"x"}`, models.Listed{ID: "m", Created: 5}},
		"vLLM":            {`{"id":"m","max_model_len":4096}`, models.Listed{ID: "m", Context: 4096}},
		"Groq":            {`{"id":"m","context_window":131072,"max_completion_tokens":8192}`, models.Listed{ID: "m", Context: 131072, MaxOutput: 8192}},
		"Mistral":         {`{"id":"m","max_context_length":32768,"capabilities":{"vision":true}}`, models.Listed{ID: "m", Context: 32768}},
		"llama-server":    {`{"id":"m","architecture":{"input_modalities":["text"],"output_modalities":["text"]},"meta":{"n_ctx":2048,"n_ctx_train":8192}}`, models.Listed{ID: "m", Context: 2048, Input: text, Output: text, Abilities: []models.Ability{models.Chat}}},
		"another llmsup":  {`{"id":"m","context_length":8192,"max_output_tokens":100,"capabilities":["chat","completion","tools","flying"]}`, models.Listed{ID: "m", Context: 8192, MaxOutput: 100, Abilities: []models.Ability{models.Chat, models.Completion, models.Tools}}},
		"types are wrong": {`{"id":"m","name":5,"created":"1","context_length":"4096","architecture":[],"supported_parameters":{"tools":1},"capabilities":"chat","top_provider":7}`, models.Listed{ID: "m"}},
		"no plain values": {`{"id":"m","created":-1,"context_length":-5,"max_model_len":1e300,"architecture":{"input_modalities":[1,null,""],"output_modalities":["text",["x"]]}}`, models.Listed{ID: "m", Output: text, Abilities: []models.Ability{models.Chat}}},
	} {
		t.Run(name, func(t *testing.T) {
			listed, _, _ := ParseModels([]byte(`{"data":[` + tc.entry + `]}`))
			if len(listed) != 1 || !reflect.DeepEqual(listed[0], tc.want) {
				t.Fatalf("%+v\nwant %+v", listed, tc.want)
			}
			var again models.Listed
			if raw, err := json.Marshal(listed[0]); err != nil || json.Unmarshal(raw, &again) != nil || !reflect.DeepEqual(again, tc.want) {
				t.Errorf("%s is read as %+v, %v", raw, again, err)
			}
		})
	}
}

// TestSharedWords: hundreds of models do not need as many copies of the same lists.
func TestSharedWords(t *testing.T) {
	const entry = `{"id":"%s","pricing":{"prompt":"1","completion":"1"},"architecture":{"input_modalities":["text","image"]},"supported_parameters":["tools","top_p"]}`
	path := filepath.Join(t.TempDir(), "prices.json")
	fetched := open(t, path, &fakeUpstream{answer: `{"data":[` + fmt.Sprintf(entry, "a") + "," + fmt.Sprintf(entry, "b") + `]}`})
	if err := fetched.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*UpstreamList{"fetched": fetched, "from its file": open(t, path, &fakeUpstream{})} {
		list := l.Listed()
		if len(list) != 2 || len(list[1].Parameters) != 2 || &list[0].Parameters[0] != &list[1].Parameters[0] || &list[0].Input[0] != &list[1].Input[0] {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// TestListOfOlderVersion: names that an older version saved can be called at once, and the
// list is fetched, since the rest is missing.
func TestListOfOlderVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	old := fmt.Sprintf(`{"from":%q,"at":%q,"models":{"a/b":{"prompt":"1","completion":"1"}},"names":["a/b","a/c"]}`, base, time.Now().Format(time.RFC3339))
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path, &fakeUpstream{answer: listing})
	if listed := l.Listed(); len(listed) != 2 || listed[1].ID != "a/c" {
		t.Errorf("%+v", listed)
	}
	fetched := make(chan error)
	go l.KeepFresh(t.Context(), func(err error) { fetched <- err })
	if err := <-fetched; err != nil || len(l.Listed()) != 12 {
		t.Errorf("%v, %+v", err, l.Listed())
	}
}
