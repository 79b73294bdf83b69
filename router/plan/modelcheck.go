package plan

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// CheckChoices rejects a body that names, beside model, models that the call's key may not
// use, or, while a budget applies, models whose price llmsup cannot know.
func (s *Routing) CheckChoices(k *access.Key, c *request.Request) wire.Error {
	restricted := k != nil && k.Routes != nil
	if !restricted && !s.Accounting.Budget.Limited(c.Key) {
		return wire.Error{}
	}
	for _, choice := range append([]request.ModelChoice{{Field: "model", Model: c.Body.Model}}, c.Body.Choices...) {
		switch {
		case choice.Model == request.UnreadableChoice:
			return invalidChoiceError(choice.Field, "%s: is not a list of up to %d names of models, and the call's key is restricted to some models or has a budget", choice.Field, request.MaxChoicesOfModels)
		case strings.Contains(choice.Model, request.PresetMark):
			return invalidChoiceError(choice.Field, "%s: a preset is not allowed here: llmsup does not know its model, and the call's key is restricted to some models or has a budget", choice.Field)
		case choice.Field != "model" && restricted && !s.allowsModel(k, choice.Model):
			return invalidChoiceError(choice.Field, "%s: the key %s may not use the model %s; it may use %s",
				choice.Field, k.Name, wire.Quote(wire.Shorten(choice.Model)), strings.Join(k.Routes, ", "))
		}
	}
	return wire.Error{}
}

// allowsModel reports whether a key may use a model by its name at the upstreams: one of the
// key's routes must lead to that model, and not to another one.
func (s *Routing) allowsModel(k *access.Key, model string) bool {
	route, name, ok := s.Lookup(model)
	if !ok || !k.Allows(model) && !k.Allows(name) {
		return false
	}
	primary := s.Backend(route.Primary)
	return !primary.Info().Local && ModelAt(primary, route.PrimaryModel, name) == model
}

func invalidChoiceError(field, format string, args ...any) wire.Error {
	return wire.Error{Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: wire.CodeNotAllowed, Param: field, Message: fmt.Sprintf(format, args...)}
}
