package request

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

// ModelChoice is a model that a body names beside its own.
type ModelChoice struct{ Field, Model string }

// PresetMark stands before the name of a preset in a model's name, and
// UnreadableChoice for what is no name.
const (
	PresetMark       = "@preset/"
	UnreadableChoice = "\x00"
)

// readChoice takes a field of the body into account. Its error is a sentence for
// the client.
func (b *Body) readChoice(name, value []byte) error {
	if len(name) < len("model") || len(name) > len("preſet") { // nearly all others
		return nil
	}
	field := string(name)
	switch {
	case strings.EqualFold(field, "model"):
		return fmt.Errorf("the body has the field %s; write \"model\" in lower case, once", wire.Quote(field))
	case strings.EqualFold(field, "preset"):
		b.Choices = append(b.Choices, ModelChoice{field, PresetMark})
	case strings.EqualFold(field, "models"), strings.EqualFold(field, "route"):
		b.addChoices(field, gjson.ParseBytes(value))
	}
	return nil
}

// addChoices reads a name, or a list of names or of objects that have one as "model".
func (b *Body) addChoices(field string, value gjson.Result) {
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

// MaxChoicesOfModels is how many models a body may name.
const MaxChoicesOfModels = 20

// addChoice adds a model. It returns false if the rest need not be read.
func (b *Body) addChoice(field string, name gjson.Result) bool {
	if name.Type != gjson.String || len(b.Choices) >= MaxChoicesOfModels {
		b.Choices = append(b.Choices, ModelChoice{field, UnreadableChoice})
		return false
	}
	b.Choices = append(b.Choices, ModelChoice{field, name.Str})
	return true
}
