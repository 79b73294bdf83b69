package router

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/router/wire"
)

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
