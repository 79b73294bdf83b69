package wire

import "github.com/tidwall/gjson"

// Audio is the dialect of /v1/audio/transcriptions and translations, whose
// requests are forms. An answer is JSON or a text format such as SRT.
// Source: OpenAI's API reference, "Audio".
type Audio struct{ openAIErrors }

func (Audio) InspectEvent(e Event, _ bool) EventInfo {
	if len(e.Data) == 0 {
		return EventInfo{}
	}
	if IsDone(e.Data) { // vLLM sends the events of a chat
		return EventInfo{Ended: true}
	}
	object := gjson.ParseBytes(e.Data)
	if failed := ErrorMessage(object); failed != "" {
		return EventInfo{Failed: failed}
	}
	switch object.Get("type").Str {
	case "transcript.text.done":
		return EventInfo{Answered: true, Ended: true, Usage: audioUsage(object)}
	case "transcript.text.delta", "transcript.text.segment":
		return EventInfo{Answered: true}
	}
	choice := object.Get("choices.0")
	return EventInfo{Answered: choice.Get("finish_reason").Str != "" || deltaHasContent(choice)}
}

func (Audio) InspectBody(text []byte) EventInfo {
	if len(text) == 0 {
		return EventInfo{Failed: "an empty answer"}
	}
	object := gjson.ParseBytes(text)
	if !object.IsObject() || !ValidJSON(text) {
		return EventInfo{Answered: true, Ended: true} // text, SRT or VTT; for silence only a line feed
	}
	if failed := ErrorMessage(object); failed != "" {
		return EventInfo{Failed: failed}
	}
	return EventInfo{Answered: true, Ended: true, Usage: audioUsage(object)}
}

func audioUsage(object gjson.Result) Usage {
	return responsesUsage.In(object.Get("usage"))
}
