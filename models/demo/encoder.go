package demo

import "io"

// Encoder is a tiny model of BERT's kind, which generates nothing: it computes embeddings, or
// the ranks of documents. Tests run the real llama-server on it.
//
// It needs no training. Each letter and each digit has a random vector. Attention looks at
// all tokens alike, so the result depends on which letters a text has, and not on their order:
// "cat" and "act" have the same embedding, "cat" and "dog" do not. A Ranker's score of
// a document grows with the share of its tokens that are the word "yes".
type Encoder struct {
	Ranker bool // it computes ranks in place of embeddings
}

// The size of an Encoder.
const (
	encoderWidth   = 64
	encoderHeads   = 4
	encoderContext = 512 // tokens, and the most that one text may have
)

// The places of tokens in an Encoder's vocabulary.
const (
	padToken = iota
	unknownWordToken
	classToken // begins a text
	separatorToken
	maskToken
	yesToken
	firstLetter
)

const letters = "abcdefghijklmnopqrstuvwxyz0123456789"

// Write writes the model as GGUF, version 3, with F32 weights. The bytes are the same on
// each machine.
func (e Encoder) Write(w io.Writer) error {
	tensors := e.tensors()
	return writeFile(w, e.header(tensors), tensors)
}

func (e Encoder) header(tensors []tensor) []byte {
	var m metadata
	m.text("general.architecture", "bert")
	m.text("general.type", "model")
	name, pooling := "llmsup demo (embeds)", 1 // mean
	if e.Ranker {
		name, pooling = "llmsup demo (ranks)", 4 // rank
	}
	m.text("general.name", name)
	m.number("general.file_type", 0) // all F32

	m.number("bert.block_count", 1)
	m.number("bert.context_length", encoderContext)
	m.number("bert.embedding_length", encoderWidth)
	m.number("bert.feed_forward_length", encoderWidth)
	m.number("bert.attention.head_count", encoderHeads)
	m.float("bert.attention.layer_norm_epsilon", 1e-12)
	m.flag("bert.attention.causal", false)
	m.number("bert.pooling_type", pooling)

	m.text("tokenizer.ggml.model", "bert")
	m.number("tokenizer.ggml.token_type_count", 2)
	m.tokens(encoderTokens())
	m.number("tokenizer.ggml.padding_token_id", padToken)
	m.number("tokenizer.ggml.unknown_token_id", unknownWordToken)
	m.number("tokenizer.ggml.bos_token_id", classToken)
	m.number("tokenizer.ggml.cls_token_id", classToken)
	m.number("tokenizer.ggml.eos_token_id", separatorToken)
	m.number("tokenizer.ggml.seperator_token_id", separatorToken) // llama.cpp's spelling
	m.number("tokenizer.ggml.mask_token_id", maskToken)
	return assemble(m, tensors)
}

// encoderTokens is a vocabulary for WordPiece: each letter at the start of a word, which the
// sign for a space marks, and within one. So it has no word without tokens.
func encoderTokens() []token {
	tokens := []token{
		{"[PAD]", kindControl},
		{"[UNK]", kindControl},
		{"[CLS]", kindControl},
		{"[SEP]", kindControl},
		{"[MASK]", kindControl},
		{"▁yes", kindNormal},
	}
	for _, start := range []string{"▁", ""} {
		for _, letter := range letters {
			tokens = append(tokens, token{start + string(letter), kindNormal})
		}
	}
	return tokens
}

func (e Encoder) tensors() []tensor {
	vectors := Shape{Width: encoderWidth, Numbers: firstLetter + len(letters)}.vectors()
	matrix := func(name string, fill func(int, []float32)) tensor {
		return tensor{name: name + ".weight", width: encoderWidth, rows: encoderWidth, fill: fill}
	}
	flat := func(name string, x float32) tensor {
		return tensor{name: name, width: encoderWidth, rows: 1, vector: true, fill: constant(x)}
	}
	tensors := []tensor{
		{name: "token_embd.weight", width: encoderWidth, rows: firstLetter + 2*len(letters), fill: func(token int, out []float32) {
			if token >= firstLetter { // the same at the start of a word and within it
				token = firstLetter + (token-firstLetter)%len(letters)
			}
			vectors[token].write(out)
		}},
		{name: "token_types.weight", width: encoderWidth, rows: 2},
		{name: "position_embd.weight", width: encoderWidth, rows: encoderContext},
		flat("token_embd_norm.weight", 1), flat("token_embd_norm.bias", 0),
	}
	for _, part := range []struct {
		name string
		fill func(int, []float32)
	}{
		{"attn_q", nil},
		{"attn_k", nil}, // equal scores for all tokens
		{"attn_v", identity},
		{"attn_output", identity},
		{"ffn_up", nil},
		{"ffn_down", nil},
	} {
		name := "blk.0." + part.name
		tensors = append(tensors, matrix(name, part.fill), flat(name+".bias", 0))
	}
	for _, name := range []string{"attn_output_norm", "layer_output_norm"} {
		name = "blk.0." + name
		tensors = append(tensors, flat(name+".weight", 1), flat(name+".bias", 0))
	}
	if e.Ranker {
		tensors = append(tensors, tensor{
			name: "cls.output.weight", width: encoderWidth, rows: 1,
			fill: func(_ int, out []float32) { vectors[yesToken].write(out) },
		})
	}
	return tensors
}

// FileName returns a name for the model's file.
func (e Encoder) FileName() string {
	if e.Ranker {
		return "ranks.gguf"
	}
	return "embeds.gguf"
}
