package responses

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// Completer completes one answer. It is for one goroutine.
type Completer struct {
	request []byte
	model   string
	partial bool // the server omits what the schema requires

	next     int  // the sequence number of the next event
	numbered bool // the server numbers its events
	id       string
	items    []*item  // in the order of their output_index
	required []member // of a response; nil = not computed yet
	out      []byte   // the last result of Event
}

// item is an output item of a stream.
type item struct {
	id, callID string
	hasPart    bool // the event that begins its content was sent
	finished   bool // the event with its whole text or its arguments was sent
}

// New returns the Completer of the answer to a request, which is a JSON object. model is the
// model's name in that answer. If the answer is not partial, its server sends all that the
// schema requires: then the Completer only counts the events.
func New(request []byte, model string, partial bool) *Completer {
	return &Completer{request: request, model: model, partial: partial}
}

// Whole returns a whole answer with what it lacks.
func (c *Completer) Whole(answer []byte) []byte {
	if !c.partial || !wire.ValidJSON(answer) {
		return answer
	}
	return c.appendResponse(make([]byte, 0, 2*len(answer)+1024), answer)
}

// Event returns the bytes that the client receives for an event of the stream. They are valid
// until the next call.
func (c *Completer) Event(e wire.Event) []byte {
	if len(e.Data) == 0 { // a ping
		return e.Raw
	}
	at := bytes.Index(e.Raw, e.Data) // -1: the data is on several lines, which llama-server never does
	v, ok := readEvent(e)
	if !c.partial || at < 0 || !ok {
		c.next++
		return e.Raw
	}
	if c.repeats(v) {
		return nil
	}
	c.numbered = c.numbered || v.sequence
	i := c.itemOf(v)
	c.out = c.appendMissingEvents(c.out[:0], v, i)
	if v.kind == kindError && e.Name == nil {
		c.out = append(c.out, "event: error\n"...)
	}
	c.out = append(c.out, e.Raw[:at]...)
	c.out = c.appendEvent(c.out, e.Data, v, i)
	c.out = append(c.out, e.Raw[at+len(e.Data):]...)
	return c.out
}

// Error returns an error event of llmsup's own with what it lacks.
func (c *Completer) Error(raw []byte) []byte {
	e, err := wire.NewEventReader(bytes.NewReader(raw)).Next()
	at := bytes.Index(raw, e.Data)
	if err != nil || at < 0 || len(e.Data) == 0 {
		return raw
	}
	out := append([]byte{}, raw[:at]...)
	out = appendObject(out, e.Data, nil, c.sequence())
	return append(out, raw[at+len(e.Data):]...)
}

// repeats reports whether an event repeats the beginning of the answer after an output item
// has begun.
func (c *Completer) repeats(v event) bool {
	if v.kind != "response.created" && v.kind != "response.in_progress" {
		return false
	}
	id := gjson.GetBytes(v.response, "id").Str
	c.id = cmp.Or(c.id, id)
	return len(c.items) > 0 && c.id == id
}

// itemOf returns the output_index of an event's item; -1 = the event has none.
func (c *Completer) itemOf(v event) int {
	var id, callID string
	switch {
	case v.item != nil:
		id, callID = gjson.GetBytes(v.item, "id").Str, gjson.GetBytes(v.item, "call_id").Str
	case v.itemID != "":
		id, callID = v.itemID, v.itemID
	case !v.ofItem():
		return -1
	case len(c.items) > 0:
		return len(c.items) - 1
	}
	at := slices.IndexFunc(c.items, func(i *item) bool { return i.id != "" && i.id == id || i.callID != "" && i.callID == callID })
	if at < 0 || v.kind == "response.output_item.added" {
		c.items = append(c.items, &item{id: cmp.Or(id, callID), callID: callID})
		return len(c.items) - 1
	}
	return at
}

// sequence returns the number of the next event, and counts it.
func (c *Completer) sequence() member {
	n := member{"sequence_number", strconv.Itoa(c.next)}
	c.next++
	return n
}

// responseMembers returns what a response must have. What the request decides is as in the
// request.
func (c *Completer) responseMembers() []member {
	if c.required != nil {
		return c.required
	}
	asked := map[string]string{}
	wire.Scan(c.request, func(m wire.Member) { // of duplicates llama-server reads the last
		name := string(wire.MemberName(c.request[m.KeyFrom:m.KeyTo]))
		switch name {
		case "instructions", "metadata", "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p":
			if value := string(c.request[m.From:m.To]); value != "null" {
				asked[name] = value
			}
		}
	})
	tools := string(appendArray(nil, []byte(cmp.Or(asked["tools"], "[]")), appendTool))
	c.required = []member{
		{"created_at", strconv.FormatInt(time.Now().Unix(), 10)},
		{"error", "null"},
		{"incomplete_details", "null"},
		{"instructions", cmp.Or(asked["instructions"], "null")},
		{"metadata", cmp.Or(asked["metadata"], "{}")},
		{"model", wire.Quote(c.model)},
		{"output", "[]"},
		{"parallel_tool_calls", cmp.Or(asked["parallel_tool_calls"], "true")},
		{"temperature", cmp.Or(asked["temperature"], "null")},
		{"tool_choice", cmp.Or(asked["tool_choice"], `"auto"`)},
		{"tools", tools},
		{"top_p", cmp.Or(asked["top_p"], "null")},
		{"access_programs", "null"},
	}
	return c.required
}
