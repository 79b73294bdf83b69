package modellist

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/llmsup/llmsup/router/wire"
)

// anthropicModel is a model in Anthropic's format. A limit that is unknown is absent.
type anthropicModel struct {
	Type        string `json:"type"`
	ID          string `json:"id"`
	DisplayName string `json:"display_name"`
	CreatedAt   string `json:"created_at"`                 // RFC 3339
	MaxInput    int    `json:"max_input_tokens,omitempty"` // the context, which the answer shares
	MaxTokens   int    `json:"max_tokens,omitempty"`       // of one answer
}

func (h *Handler) anthropicModel(e *entry) anthropicModel {
	m := h.model(e)
	return anthropicModel{
		Type: "model", ID: m.ID, DisplayName: m.Name, CreatedAt: time.Unix(m.Created, 0).UTC().Format(time.RFC3339),
		MaxInput: m.Context, MaxTokens: m.MaxOutput,
	}
}

// The number of models on a page.
const (
	defaultPage = 20
	maxPage     = 1000
)

// listForAnthropic answers with a page of models.
func (h *Handler) listForAnthropic(w http.ResponseWriter, r *http.Request, visible []*entry) {
	page, more, err := pageOf(visible, r.URL.Query())
	if err != nil {
		wire.WriteError(w, wire.Messages{}, wire.Error{Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: wire.CodeInvalidBody, Message: err.Error()})
		return
	}
	answer := struct {
		Data    []anthropicModel `json:"data"`
		HasMore bool             `json:"has_more"`
		FirstID *string          `json:"first_id"` // null = the page is empty
		LastID  *string          `json:"last_id"`
	}{Data: make([]anthropicModel, 0, len(page)), HasMore: more}
	for _, e := range page {
		answer.Data = append(answer.Data, h.anthropicModel(e))
	}
	if len(page) > 0 {
		answer.FirstID, answer.LastID = &page[0].id, &page[len(page)-1].id
	}
	wire.WriteJSON(w, http.StatusOK, answer)
}

// pageOf returns the page that a query asks for: limit models after after_id or before
// before_id, and whether there are more in that direction.
func pageOf(all []*entry, query url.Values) (page []*entry, more bool, err error) {
	limit := defaultPage
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxPage {
			return nil, false, fmt.Errorf("limit is %s, not a number between 1 and %d", wire.Quote(wire.Shorten(text)), maxPage)
		}
	}
	find := func(parameter string) (int, error) {
		id := query.Get(parameter)
		i := slices.IndexFunc(all, func(e *entry) bool { return e.id == id })
		if i < 0 {
			return 0, fmt.Errorf("%s is %s, which is not in the list of models; start again without it", parameter, wire.Quote(wire.Shorten(id)))
		}
		return i, nil
	}
	switch before, after := query.Has("before_id"), query.Has("after_id"); {
	case before && after:
		return nil, false, fmt.Errorf("before_id and after_id exclude each other")
	case before:
		end, err := find("before_id")
		if err != nil {
			return nil, false, err
		}
		start := max(end-limit, 0)
		return all[start:end], start > 0, nil
	case after:
		last, err := find("after_id")
		if err != nil {
			return nil, false, err
		}
		all = all[last+1:]
	}
	return all[:min(limit, len(all))], limit < len(all), nil
}
