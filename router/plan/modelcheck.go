package plan

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// CheckChoices rejects a body by which a model could answer that the call's key may
// not use, or one whose price llmsup can't see while a budget applies.
func (s *Routing) CheckChoices(k *access.Key, c *request.Request) wire.Error {
	restricted := k != nil && k.Routes != nil
	if !restricted && !s.Accounting.Budget.Limited(c.Key) {
		return wire.Error{}
	}
	for _, choice := range append([]request.ModelChoice{{Field: "model", Model: c.Body.Model}}, c.Body.Choices...) {
		switch {
		case choice.Model == request.UnreadableChoice:
			return invalidChoice(choice.Field, "%s: is not a list of up to %d names of models, and the call's key is restricted to some models or has a budget", choice.Field, request.MaxChoicesOfModels)
		case strings.Contains(choice.Model, request.PresetMark):
			return invalidChoice(choice.Field, "%s: a preset is not allowed here: llmsup can't see which model it stands for, and the call's key is restricted to some models or has a budget", choice.Field)
		case choice.Field != "model" && restricted && !s.allows(k, choice.Model):
			return invalidChoice(choice.Field, "%s: the key %s may not use the model %s; it may use %s",
				choice.Field, k.Name, wire.Quote(wire.Shorten(choice.Model)), strings.Join(k.Routes, ", "))
		}
	}
	return wire.Error{}
}

// allows says whether a key may use a model by the name that upstreams know it by:
// one of its routes has to lead there, and not to another model.
func (s *Routing) allows(k *access.Key, model string) bool {
	route, name, ok := s.lookup(model)
	if !ok || !k.Allows(model) && !k.Allows(name) {
		return false
	}
	primary := s.Backends[route.Primary]
	return !primary.Info().Local && modelAt(primary, route.PrimaryModel, name) == model
}

func invalidChoice(field, format string, args ...any) wire.Error {
	return wire.Error{Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: wire.CodeNotAllowed, Param: field, Message: fmt.Sprintf(format, args...)}
}
