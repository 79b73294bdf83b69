package router

import "github.com/tidwall/gjson"

// audio is the dialect of /v1/audio/transcriptions and translations, whose
// requests are forms. An answer is JSON, or text in one of several formats.
// Source: OpenAI's API reference, "Audio".
type audio struct{ openAIErrors }

func (audio) read(e event, _ bool) meaning {
	if len(e.data) == 0 {
		return meaning{}
	}
	if isDone(e.data) { // vLLM's end, whose events are those of a chat
		return meaning{ended: true}
	}
	object := gjson.ParseBytes(e.data)
	if failed := errorIn(object); failed != "" {
		return meaning{failed: failed}
	}
	switch object.Get("type").Str {
	case "transcript.text.done":
		return meaning{answered: true, ended: true, usage: audioUsage(object)}
	case "transcript.text.delta", "transcript.text.segment":
		return meaning{answered: true}
	}
	choice := object.Get("choices.0")
	return meaning{answered: choice.Get("finish_reason").Str != "" || deltaCarries(choice)}
}

func (audio) judge(text []byte) meaning {
	if len(text) == 0 {
		return meaning{failed: "an empty answer"}
	}
	object := gjson.ParseBytes(text)
	if !object.IsObject() || !validJSON(text) {
		return meaning{answered: true, ended: true} // text, SRT or VTT; of silence, a line's end
	}
	if failed := errorIn(object); failed != "" {
		return meaning{failed: failed}
	}
	return meaning{answered: true, ended: true, usage: audioUsage(object)}
}

func audioUsage(object gjson.Result) usage {
	return responsesUsage.in(object.Get("usage"))
}
