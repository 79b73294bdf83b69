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
	gemma := gguf.Header{Architecture: "gemma-embedding", Pooling: gguf.PoolingMean, Bidirectional: true}
	ranker := gguf.Header{Architecture: "jina-bert-v2", Pooling: gguf.PoolingRank, Bidirectional: true, RankHead: true}
	qwen := gguf.Header{Architecture: "qwen3", Pooling: gguf.PoolingLast}
	all := gguf.Projector{Vision: true, Audio: true}
	for name, tt := range map[string]struct {
		header    gguf.Header
		args, env string
		projector gguf.Projector
		want      string
	}{
		"generates":                    {header: llama, want: "chat completion"},
		"calls tools":                  {header: tools, args: "--jinja", want: "chat completion tools"},
		"sees and hears":               {header: llama, projector: all, want: "chat completion vision audio"},
		"restricted to embeddings":     {header: tools, args: "--embeddings", projector: all, want: "embedding"},
		"by the other name":            {header: tools, args: "--embedding", want: "embedding"},
		"by the environment":           {header: tools, env: "LLAMA_ARG_EMBEDDINGS=1", want: "embedding"},
		"not by the environment":       {header: tools, env: "LLAMA_ARG_EMBEDDINGS=0", want: "chat completion tools"},
		"embeds as well":               {header: llama, args: "--embeddings --pooling mean", want: "chat completion embedding"},
		"pooled by the environment":    {header: llama, args: "--embeddings", env: "LLAMA_ARG_POOLING=mean", want: "chat completion embedding"},
		"embeds as well, by its file":  {header: qwen, args: "--embeddings", want: "chat completion embedding"},
		"only generates":               {header: qwen, want: "chat completion"},
		"embeds tokens":                {header: qwen, args: "--embeddings --pooling none", want: "embedding"},
		"ranks as well":                {header: llama, args: "--reranking", want: "chat completion rerank"},
		"an encoder":                   {header: bert, args: "--embeddings", want: "embedding"},
		"an encoder without a flag":    {header: bert, want: "embedding"},
		"an encoder of an older file":  {header: oldBert, want: "embedding"},
		"an encoder made of a decoder": {header: gemma, want: "embedding"},
		"a ranker":                     {header: ranker, args: "--rerank", want: "rerank"},
		"a ranker by the environment":  {header: ranker, env: "LLAMA_ARG_RERANKING=on", want: "rerank"},
		"a ranker without a flag":      {header: ranker, want: "rerank"},
		"a ranker that embeds":         {header: ranker, args: "--embeddings --pooling mean", want: "embedding"},
		"a ranker, flags in a row":     {header: ranker, args: "--reranking --pooling mean", want: "embedding"},
		"a ranker pooled otherwise":    {header: ranker, args: "--pooling cls", want: "embedding"},
		"pooled to ranks":              {header: bert, args: "--embeddings --pooling rank", want: "rerank"},
	} {
		t.Run(name, func(t *testing.T) {
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			var got []string
			for _, a := range abilities(&tt.header, readUse(strings.Fields(tt.args)), tt.projector) {
				got = append(got, string(a))
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
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
