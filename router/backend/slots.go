package backend

import (
	"slices"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/request"
)

// slotsFor returns how many slots a call occupies at the same time if the server has
// enough.
func slotsFor(r *request.Request, use models.SlotUse) int {
	if slices.Contains(use.None, r.Path) {
		return 0
	}
	n := 1
	if !slices.Contains(use.OneChoice, r.Path) {
		n = int(min(max(r.Body.Count, 1), aggregate.MaxChoices))
	}
	if field := use.PerItem[r.Path]; field != "" {
		n *= min(max(countTasks(gjson.GetBytes(r.Body.Raw, field)), 1), aggregate.MaxChoices)
	}
	return n
}

// countTasks counts the elements of a list that are a task each. A list of tokens, or of
// tokens and texts, is one prompt.
func countTasks(list gjson.Result) int {
	if !list.IsArray() {
		return 1
	}
	n, tokens := 0, false
	list.ForEach(func(_, element gjson.Result) bool {
		tokens = tokens || element.Type == gjson.Number
		n++
		return true
	})
	if tokens {
		return 1
	}
	return n
}
