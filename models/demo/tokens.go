package demo

import (
	"fmt"
	"strconv"
)

// The kinds of token (enum llama_token_type).
const (
	kindNormal  uint32 = 1
	kindUnknown uint32 = 2
	kindControl uint32 = 3
	kindByte    uint32 = 6
)

// The places of tokens in the vocabulary: three special ones, the 256 bytes that
// any other text is made of, three for the chat's roles, then the numbers.
const (
	unknownToken = 0
	startToken   = 1
	endToken     = 2
	firstNumber  = 3 + 256 + 3
)

type token struct {
	text string
	kind uint32
}

func (s Shape) tokens() []token {
	tokens := []token{{"<unk>", kindUnknown}, {"<s>", kindControl}, {"</s>", kindControl}}
	for b := range 256 {
		tokens = append(tokens, token{fmt.Sprintf("<0x%02X>", b), kindByte})
	}
	for _, role := range []string{"user", "assistant", "system"} {
		tokens = append(tokens, token{"<|" + role + "|>", kindControl})
	}
	for n := 1; n <= s.Numbers; n++ {
		// The tokenizer's sign for a space, so that the text is " 1", " 2", ...
		tokens = append(tokens, token{"▁" + strconv.Itoa(n), kindNormal})
	}
	return tokens
}

// chatTemplate writes <|role|> before each message and nothing after it. A final assistant
// message stays open, so that the model continues from its last number.
const chatTemplate = `{%- for message in messages -%}` +
	`{{- '<|' + message.role + '|>' -}}{{- message.content -}}` +
	`{%- endfor -%}` +
	`{%- if not messages or messages[-1].role != 'assistant' -%}{{- '<|assistant|>' -}}{%- endif -%}`
