package responses

import (
	"bytes"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// member is a member of an object: its name, and its value as JSON.
type member struct{ name, value string }

// completion appends a JSON value, completed.
type completion func(out, value []byte) []byte

const statusCompleted = `"completed"`

// appendObject appends an object: its own bytes, in which the members that inner knows are
// completed, and at its end the required members that it lacks. inner may be nil.
func appendObject(out, object []byte, inner func(name string) completion, required ...member) []byte {
	if !wire.IsObject(object) {
		return append(out, object...)
	}
	at, empty := 0, true
	has := make([]bool, len(required))
	wire.Scan(object, func(m wire.Member) {
		empty = false
		name := string(wire.MemberName(object[m.KeyFrom:m.KeyTo]))
		for i := range required {
			has[i] = has[i] || required[i].name == name
		}
		if inner == nil {
			return
		}
		if complete := inner(name); complete != nil {
			out = complete(append(out, object[at:m.From]...), object[m.From:m.To])
			at = m.To
		}
	})
	end := bytes.LastIndexByte(object, '}')
	out = append(out, object[at:end]...)
	for i, m := range required {
		if has[i] {
			continue
		}
		if !empty {
			out = append(out, ',')
		}
		out = append(append(append(append(out, '"'), m.name...), `":`...), m.value...)
		empty = false
	}
	return append(out, object[end:]...)
}

// appendArray appends an array whose elements are completed.
func appendArray(out, array []byte, element completion) []byte {
	list := gjson.ParseBytes(array)
	if !list.IsArray() {
		return append(out, array...)
	}
	at := 0
	list.ForEach(func(_, value gjson.Result) bool {
		out = element(append(out, array[at:value.Index]...), array[value.Index:value.Index+len(value.Raw)])
		at = value.Index + len(value.Raw)
		return true
	})
	return append(out, array[at:]...)
}

// appendResponse appends a response, completed.
func (c *Completer) appendResponse(out, response []byte) []byte {
	return appendObject(out, response, func(name string) completion {
		switch name {
		case "output":
			return func(out, items []byte) []byte { return appendArray(out, items, itemsWith(statusCompleted)) }
		case "usage":
			return appendUsage
		}
		return nil
	}, c.responseMembers()...)
}

// itemsWith returns the completion of output items whose status is not known.
func itemsWith(status string) completion {
	return func(out, item []byte) []byte {
		object := gjson.ParseBytes(item)
		switch object.Get("type").Str {
		case "message":
			return appendObject(out, item, func(name string) completion {
				if name != "content" {
					return nil
				}
				return func(out, parts []byte) []byte { return appendArray(out, parts, appendPart) }
			}, member{"content", "[]"}, member{"role", `"assistant"`}, member{"status", status})
		case "reasoning":
			return appendObject(out, item, nil, member{"summary", "[]"}, member{"status", status})
		case "function_call":
			id := object.Get("call_id").Raw // older builds omit the id
			if id == "" {
				id = "null"
			}
			return appendObject(out, item, nil, member{"id", id}, member{"status", status})
		}
		return append(out, item...)
	}
}

// appendPart appends a part of an item's content, completed.
func appendPart(out, part []byte) []byte {
	if gjson.GetBytes(part, "type").Str != "output_text" {
		return append(out, part...)
	}
	return appendObject(out, part, nil, member{"annotations", "[]"}, member{"logprobs", "[]"})
}

// appendUsage appends the usage of a response, completed. llama-server counts the tokens of
// reasoning as output, and not for themselves.
func appendUsage(out, usage []byte) []byte {
	const cached, reasoning = `{"cached_tokens":0,"cache_write_tokens":0}`, `{"reasoning_tokens":0}`
	return appendObject(out, usage, func(name string) completion {
		switch name {
		case "input_tokens_details":
			return func(out, details []byte) []byte {
				return appendObject(out, details, nil, member{"cached_tokens", "0"}, member{"cache_write_tokens", "0"})
			}
		case "output_tokens_details":
			return func(out, details []byte) []byte {
				return appendObject(out, details, nil, member{"reasoning_tokens", "0"})
			}
		}
		return nil
	}, member{"input_tokens_details", cached}, member{"output_tokens_details", reasoning})
}

// appendTool appends a tool of a request as a response has it.
func appendTool(out, tool []byte) []byte {
	if gjson.GetBytes(tool, "type").Str != "function" {
		return append(out, tool...)
	}
	return appendObject(out, tool, nil, member{"parameters", "null"}, member{"strict", "null"})
}
