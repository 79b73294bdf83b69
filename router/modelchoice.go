package router

import (
	"fmt"
	"net/http"
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

// modelsAt returns the models that may answer a call at a backend.
func (c *call) modelsAt(s step) []string {
	models := []string{s.model}
	for _, choice := range c.body.choices {
		models = append(models, choice.model)
	}
	return models
}

// checkChoices rejects a body by which a model could answer that the call's key may
// not use, or one whose price llmsup can't see while a budget applies.
func (s *routing) checkChoices(k *Key, c *call) wire.Error {
	restricted := k != nil && k.Routes != nil
	if !restricted && !c.books.Budget.Limited(c.key) {
		return wire.Error{}
	}
	for _, choice := range append([]modelChoice{{"model", c.body.model}}, c.body.choices...) {
		switch {
		case choice.model == unreadableChoice:
			return invalidChoice(choice.field, "%s: is not a list of up to %d names of models, and the call's key is restricted to some models or has a budget", choice.field, maxChoicesOfModels)
		case strings.Contains(choice.model, presetMark):
			return invalidChoice(choice.field, "%s: a preset is not allowed here: llmsup can't see which model it stands for, and the call's key is restricted to some models or has a budget", choice.field)
		case choice.field != "model" && restricted && !s.allows(k, choice.model):
			return invalidChoice(choice.field, "%s: the key %s may not use the model %s; it may use %s",
				choice.field, k.Name, wire.Quote(shorten(choice.model)), strings.Join(k.Routes, ", "))
		}
	}
	return wire.Error{}
}

// allows says whether a key may use a model by the name that upstreams know it by:
// one of its routes has to lead there, and not to another model.
func (s *routing) allows(k *Key, model string) bool {
	route, name, ok := s.lookup(model)
	if !ok || !k.mayUse(model) && !k.mayUse(name) {
		return false
	}
	primary := s.backends[route.Primary]
	_, local := primary.(*localBackend)
	return !local && s.modelAt(primary, route.PrimaryModel, name) == model
}

func invalidChoice(field, format string, args ...any) wire.Error {
	return wire.Error{Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: wire.CodeNotAllowed, Param: field, Message: fmt.Sprintf(format, args...)}
}
