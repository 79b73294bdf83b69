package wire

import "github.com/tidwall/gjson"

// Speech is the dialect of /v1/audio/speech. An answer is a file that is played while it is
// made, so its first byte is passed on at once; or a stream of events.
// Source: OpenAI's API reference, "Create speech".
type Speech struct{ openAIErrors }

// HeldBytes implements Progressive.
func (Speech) HeldBytes(json bool) int {
	if json { // it may be an error
		return imageHead
	}
	return 1
}

func (Speech) InspectEvent(e Event, _ bool) EventInfo {
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
	switch object.Get("type").Str {
	case "speech.audio.done":
		return EventInfo{Answered: true, Ended: true, Usage: AnyUsage(object.Get("usage"))}
	case "error":
		return EventInfo{Failed: "an error without a message"}
	}
	return EventInfo{Answered: HasContent(object.Get("audio"))}
}

func (Speech) InspectBody(body []byte) EventInfo {
	if len(body) == 0 {
		return EventInfo{Failed: "an empty answer"}
	}
	if _, failed := parseObject(body); failed != "" && failed != NotJSON {
		return EventInfo{Failed: failed}
	}
	return EventInfo{Answered: true, Ended: true}
}
