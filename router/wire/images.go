package wire

import (
	"strings"

	"github.com/tidwall/gjson"
)

// Images is the dialect of /v1/images/generations and /v1/images/edits. Their answers have
// images of several MB in base64, and are passed on while they arrive.
// Source: OpenAI's API reference, "Images" and "Image streaming".
type Images struct{ openAIErrors }

// imageHead is how much of a whole answer is read before it is passed on, in bytes: more
// than an error has.
const imageHead = 64 << 10

// HeldBytes implements Progressive.
func (Images) HeldBytes(bool) int { return imageHead }

func (Images) InspectEvent(e Event, _ bool) EventInfo {
	if len(e.Data) == 0 {
		return EventInfo{}
	}
	if IsDone(e.Data) {
		return EventInfo{Ended: true}
	}
	object := gjson.ParseBytes(e.Data)
	if failed := ErrorMessage(object); failed != "" {
		return EventInfo{Failed: failed}
	}
	kind := object.Get("type").Str
	if kind == "" {
		kind = string(e.Name)
	}
	switch {
	case kind == "error":
		return EventInfo{Failed: "an error without a message"}
	case strings.HasSuffix(kind, ".completed"): // of one image of possibly several
		return EventInfo{Answered: true, Completed: true, Usage: AnyUsage(object.Get("usage"))}
	}
	return EventInfo{Answered: HasContent(object.Get("b64_json"))}
}

// AllCompleted returns whether a stream is complete, which has no end mark: as many images
// are as the call asks for.
func (Images) AllCompleted(asked, completed int64) bool { return completed >= max(asked, 1) }

func (Images) InspectBody(body []byte) EventInfo {
	object, failed := parseObject(body)
	if failed != "" {
		return EventInfo{Failed: failed}
	}
	return EventInfo{Answered: true, Ended: true, Usage: AnyUsage(object.Get("usage"))}
}
