package wire

import "github.com/tidwall/gjson"

// Audio is the dialect of /v1/audio/transcriptions and translations, whose
// requests are forms. An answer is JSON, or text in one of several formats.
// Source: OpenAI's API reference, "Audio".
type Audio struct{ openAIErrors }

func (Audio) Read(e Event, _ bool) Meaning {
	if len(e.Data) == 0 {
		return Meaning{}
	}
	if IsDone(e.Data) { // vLLM's end, whose events are those of a chat
		return Meaning{Ended: true}
	}
	object := gjson.ParseBytes(e.Data)
	if failed := ErrorIn(object); failed != "" {
		return Meaning{Failed: failed}
	}
	switch object.Get("type").Str {
	case "transcript.text.done":
		return Meaning{Answered: true, Ended: true, Usage: audioUsage(object)}
	case "transcript.text.delta", "transcript.text.segment":
		return Meaning{Answered: true}
	}
	choice := object.Get("choices.0")
	return Meaning{Answered: choice.Get("finish_reason").Str != "" || deltaCarries(choice)}
}

func (Audio) Judge(text []byte) Meaning {
	if len(text) == 0 {
		return Meaning{Failed: "an empty answer"}
	}
	object := gjson.ParseBytes(text)
	if !object.IsObject() || !ValidJSON(text) {
		return Meaning{Answered: true, Ended: true} // text, SRT or VTT; of silence, a line's end
	}
	if failed := ErrorIn(object); failed != "" {
		return Meaning{Failed: failed}
	}
	return Meaning{Answered: true, Ended: true, Usage: audioUsage(object)}
}

func audioUsage(object gjson.Result) Usage {
	return responsesUsage.In(object.Get("usage"))
}
