package responses

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

const kindError = "error"

// event is the members of an event that decide what it lacks.
type event struct {
	kind     string // its type
	itemID   string
	item     []byte // JSON; nil = it has none
	response []byte // JSON; nil = it has none
	failed   []byte // the member "error", as JSON; nil = it has none
	sequence bool   // it has a sequence_number
}

// readEvent reads the data of an event; ok is false if that is not an object.
func readEvent(e wire.Event) (v event, ok bool) {
	data := e.Data
	ok = wire.Scan(data, func(m wire.Member) {
		value := data[m.From:m.To]
		switch string(wire.MemberName(data[m.KeyFrom:m.KeyTo])) {
		case "type":
			v.kind = gjson.ParseBytes(value).Str
		case "item_id":
			v.itemID = gjson.ParseBytes(value).Str
		case "item":
			v.item = value
		case "response":
			v.response = value
		case "error":
			v.failed = value
		case "sequence_number":
			v.sequence = true
		}
	})
	if v.kind == "" {
		v.kind = string(e.Name)
	}
	if v.kind == "" && v.failed != nil {
		v.kind = kindError
	}
	return v, ok && wire.IsObject(data)
}

// ofItem reports whether an event belongs to an output item.
func (v event) ofItem() bool { return v.item != nil || v.ofContent() || v.ofArguments() }

// ofContent reports whether an event belongs to a part of an item's content.
func (v event) ofContent() bool {
	for _, prefix := range []string{"response.content_part.", "response.output_text.", "response.reasoning_text."} {
		if strings.HasPrefix(v.kind, prefix) {
			return true
		}
	}
	return false
}

// ofArguments reports whether an event belongs to the arguments of a function call.
func (v event) ofArguments() bool {
	return strings.HasPrefix(v.kind, "response.function_call_arguments.")
}

// status returns the status of the items in an event, as JSON.
func (v event) status() string {
	if v.kind == "response.output_item.added" {
		return `"in_progress"`
	}
	return statusCompleted
}

// appendEvent appends the data of an event, completed. i is the output_index of its item.
func (c *Completer) appendEvent(out, data []byte, v event, i int) []byte {
	var required []member
	if v.ofContent() || v.ofArguments() {
		required = append(required, member{"item_id", wire.Quote(c.items[i].id)})
	}
	if i >= 0 {
		required = append(required, member{"output_index", strconv.Itoa(i)})
	}
	if v.ofContent() { // an item of llama-server has one part
		required = append(required, member{"content_index", "0"})
	}
	if strings.HasPrefix(v.kind, "response.output_text.") {
		required = append(required, member{"logprobs", "[]"})
	}
	if v.kind == kindError {
		required = append(required, errorMembers(v.failed)...)
	}
	return appendObject(out, data, func(name string) completion {
		switch name {
		case "response":
			return c.appendResponse
		case "item":
			return itemsWith(v.status())
		case "part":
			return appendPart
		}
		return nil
	}, append(required, c.sequence())...)
}

// errorMembers returns what an error event must have, from llama-server's error object. Its
// code is a number; that of an event is a text.
func errorMembers(failed []byte) []member {
	object := gjson.ParseBytes(failed)
	code := object.Get("type").Raw
	if code == "" {
		code = "null"
	}
	message := wire.ErrorMessage(gjson.Parse(`{"error":` + string(failed) + `}`))
	return []member{{"type", `"error"`}, {"code", code}, {"message", wire.Quote(message)}, {"param", "null"}}
}

// appendMissingEvents appends the events that the schema requires before an event, and that
// llama-server does not send.
func (c *Completer) appendMissingEvents(out []byte, v event, i int) []byte {
	if c.next == 0 && v.kind == "response.completed" && !c.numbered { // the answer has no whole character
		out = c.appendBeginning(out, "response.created", v)
		return c.appendBeginning(out, "response.in_progress", v)
	}
	if i < 0 {
		return out
	}
	at := c.items[i]
	switch v.kind {
	case "response.content_part.added":
		at.hasPart = true
	case "response.reasoning_text.done", "response.function_call_arguments.done":
		at.finished = true
	case "response.reasoning_text.delta":
		if !at.hasPart && !c.numbered {
			at.hasPart = true
			return c.appendItemEvent(out, "response.content_part.added", i, member{"content_index", "0"}, member{"part", `{"type":"reasoning_text","text":""}`})
		}
	case "response.output_item.done":
		if !at.finished && !c.numbered {
			at.finished = true
			return c.appendDone(out, v.item, i)
		}
	}
	return out
}

// appendBeginning appends an event that begins the answer whose end v is.
func (c *Completer) appendBeginning(out []byte, kind string, v event) []byte {
	response := c.appendResponse(nil, []byte(`{"id":`+cmp.Or(gjson.GetBytes(v.response, "id").Raw, `""`)+`,"object":"response","status":"in_progress"}`))
	return appendNew(out, kind, member{"response", string(response)}, c.sequence())
}

// appendDone appends the events that end an item's content, before the one that ends the item.
func (c *Completer) appendDone(out, done []byte, i int) []byte {
	object := gjson.ParseBytes(done)
	switch object.Get("type").Str {
	case "function_call":
		return c.appendItemEvent(out, "response.function_call_arguments.done", i,
			member{"name", object.Get("name").Raw}, member{"arguments", object.Get("arguments").Raw})
	case "reasoning":
		part := object.Get("content.0")
		if !c.items[i].hasPart || !part.Get("text").Exists() {
			return out
		}
		first := member{"content_index", "0"}
		out = c.appendItemEvent(out, "response.reasoning_text.done", i, first, member{"text", part.Get("text").Raw})
		return c.appendItemEvent(out, "response.content_part.done", i, first, member{"part", part.Raw})
	}
	return out
}

// appendItemEvent appends an event of item i that llama-server does not send.
func (c *Completer) appendItemEvent(out []byte, kind string, i int, members ...member) []byte {
	of := []member{{"item_id", wire.Quote(c.items[i].id)}, {"output_index", strconv.Itoa(i)}}
	return appendNew(out, kind, append(append(of, members...), c.sequence())...)
}

// appendNew appends an event.
func appendNew(out []byte, kind string, members ...member) []byte {
	out = append(append(append(out, "event: "...), kind...), "\ndata: "...)
	out = appendObject(out, []byte(`{"type":`+wire.Quote(kind)+`}`), nil, members...)
	return append(out, "\n\n"...)
}
