package router

import (
	"fmt"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// A body can name models beside "model": OpenRouter reads "models" and "route",
// and "preset", which stands for a model that only OpenRouter knows. Their
// spellings in other cases count as well, since upstreams written in Go read them.
// Source: OpenRouter's documentation, "Model routing" and "Presets".

// modelChoice is a model that a body names beside its own.
type modelChoice struct{ field, model string }

// presetMark stands before the name of a preset in a model's name, and
// unreadableChoice for what is no name.
const (
	presetMark       = "@preset/"
	unreadableChoice = "\x00"
)

// readChoice takes a field of the body into account. Its error is a sentence for
// the client.
func (b *body) readChoice(name, value []byte) error {
	if len(name) < len("model") || len(name) > len("preſet") { // nearly all others
		return nil
	}
	field := string(name)
	switch {
	case strings.EqualFold(field, "model"):
		return fmt.Errorf("the body has the field %s; write \"model\" in lower case, once", wire.Quote(field))
	case strings.EqualFold(field, "preset"):
		b.choices = append(b.choices, modelChoice{field, presetMark})
	case strings.EqualFold(field, "models"), strings.EqualFold(field, "route"):
		b.addChoices(field, gjson.ParseBytes(value))
	}
	return nil
}

// addChoices reads a name, or a list of names or of objects that have one as "model".
func (b *body) addChoices(field string, value gjson.Result) {
	if value.Type == gjson.String && (value.Str == "fallback" || value.Str == "sort") { // words of "route" that are no models
		return
	}
	if value.Type != gjson.Null && !value.IsArray() {
		b.addChoice(field, value)
		return
	}
	value.ForEach(func(_, item gjson.Result) bool {
		if item.IsObject() {
			item = item.Get("model")
		}
		return b.addChoice(field, item)
	})
}

// maxChoicesOfModels is how many models a body may name.
const maxChoicesOfModels = 20

// addChoice adds a model. It returns false if the rest need not be read.
func (b *body) addChoice(field string, name gjson.Result) bool {
	if name.Type != gjson.String || len(b.choices) >= maxChoicesOfModels {
		b.choices = append(b.choices, modelChoice{field, unreadableChoice})
		return false
	}
	b.choices = append(b.choices, modelChoice{field, name.Str})
	return true
}
