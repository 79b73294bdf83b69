package request

import (
	"fmt"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// A body can name models beside "model": OpenRouter reads "models", "route" and "preset",
// which stands for a model that only OpenRouter knows. Other spellings such as "Models"
// count as well: upstreams written in Go accept them.
// Source: OpenRouter's documentation, "Model routing" and "Presets".

// ModelChoice is a model that a body names in a field other than "model".
type ModelChoice struct{ Field, Model string }

// PresetMark is the prefix of a preset in a model name. UnreadableChoice stands for a
// value that is not a name.
const (
	PresetMark       = "@preset/"
	UnreadableChoice = "\x00"
)

// addModelChoice adds the models that a field of the body names. Its error is a message
// for the client.
func (b *Body) addModelChoice(name, value []byte) error {
	if len(name) < len("model") || len(name) > len("preſet") { // nearly all fields
		return nil
	}
	field := string(name)
	switch {
	case strings.EqualFold(field, "model"):
		return fmt.Errorf("the body has the field %s; write \"model\" in lower case, once", wire.Quote(field))
	case strings.EqualFold(field, "preset"):
		b.Choices = append(b.Choices, ModelChoice{field, PresetMark})
	case strings.EqualFold(field, "models"), strings.EqualFold(field, "route"):
		b.addModelChoices(field, gjson.ParseBytes(value))
	}
	return nil
}

// addModelChoices reads a name, or a list of names or of objects with a "model".
func (b *Body) addModelChoices(field string, value gjson.Result) {
	if value.Type == gjson.String && (value.Str == "fallback" || value.Str == "sort") { // values of "route" that are not models
		return
	}
	if value.Type != gjson.Null && !value.IsArray() {
		b.addModelName(field, value)
		return
	}
	value.ForEach(func(_, item gjson.Result) bool {
		if item.IsObject() {
			item = item.Get("model")
		}
		return b.addModelName(field, item)
	})
}

// MaxChoicesOfModels is the highest number of models that a body may name.
const MaxChoicesOfModels = 20

// addModelName adds a model. It returns false if the rest may be skipped.
func (b *Body) addModelName(field string, name gjson.Result) bool {
	if name.Type != gjson.String || len(b.Choices) >= MaxChoicesOfModels {
		b.Choices = append(b.Choices, ModelChoice{field, UnreadableChoice})
		return false
	}
	b.Choices = append(b.Choices, ModelChoice{field, name.Str})
	return true
}
