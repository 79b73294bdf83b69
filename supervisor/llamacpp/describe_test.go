package llamacpp

import (
	"reflect"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/supervisor"
)

func TestAbilities(t *testing.T) {
	llama := gguf.Header{Architecture: "llama", Pooling: gguf.PoolingUnset}
	tools := gguf.Header{Architecture: "qwen2", Pooling: gguf.PoolingUnset, ChatTemplate: true, ToolTemplate: true}
	bert := gguf.Header{Architecture: "bert", Pooling: gguf.PoolingMean, Bidirectional: true}
	oldBert := gguf.Header{Architecture: "nomic-bert", Pooling: gguf.PoolingUnset}
	ranker := gguf.Header{Architecture: "jina-bert-v2", Pooling: gguf.PoolingRank, Bidirectional: true, RankHead: true}
	qwen := gguf.Header{Architecture: "qwen3", Pooling: gguf.PoolingLast}
	qwenRanker := gguf.Header{Architecture: "qwen3", Pooling: gguf.PoolingRank, RankHead: true}
	for name, tt := range map[string]struct {
		header gguf.Header
		args   string
		want   []models.Ability
	}{
		"generates":                      {llama, "", []models.Ability{models.Chat, models.Completion}},
		"calls tools":                    {tools, "--jinja", []models.Ability{models.Chat, models.Completion, models.Tools}},
		"restricted to embeddings":       {tools, "--embeddings", []models.Ability{models.Embedding}},
		"by the other name":              {tools, "--embedding", []models.Ability{models.Embedding}},
		"restricted to ranks":            {llama, "--reranking", []models.Ability{models.Rerank}},
		"an encoder":                     {bert, "--embeddings", []models.Ability{models.Embedding}},
		"an encoder without a flag":      {bert, "", []models.Ability{models.Embedding}},
		"an encoder of an older file":    {oldBert, "", []models.Ability{models.Embedding}},
		"a ranker":                       {ranker, "--rerank", []models.Ability{models.Rerank}},
		"a ranker without a flag":        {ranker, "", []models.Ability{models.Rerank}},
		"a ranker that embeds":           {ranker, "--embeddings --pooling mean", []models.Ability{models.Embedding}},
		"pooled to ranks":                {bert, "--embeddings --pooling rank", []models.Ability{models.Rerank}},
		"a decoder with a pooling":       {qwen, "--embeddings", []models.Ability{models.Embedding}},
		"a decoder that is made to rank": {qwenRanker, "--rerank", []models.Ability{models.Rerank}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := abilities(&tt.header, readUse(strings.Fields(tt.args))); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	got, err := Engine{}.Describe(supervisor.Spec{Model: demoModel(t), CtxSize: 4096, Args: []string{"--parallel", "2"}})
	want := models.Description{
		Abilities: []models.Ability{models.Chat, models.Completion}, Name: "llmsup demo (counts)",
		CtxSize: 2048, TrainedContext: 8192, Vocabulary: 3262, Embedding: 64, Parameters: 475200, Bytes: 1900800,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := (Engine{}).Describe(supervisor.Spec{Model: "none.gguf"}); err == nil {
		t.Error("a file that does not exist is described")
	}
}
