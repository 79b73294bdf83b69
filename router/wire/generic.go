package wire

import "github.com/tidwall/gjson"

// Generic is the dialect of all other endpoints: embeddings, rerank and llama-server's
// own. Each JSON answer without an error is an answer; of the events that llama-server's
// /infill streams, the last has "stop": true.
type Generic struct{ openAIErrors }

func (Generic) InspectEvent(e Event, _ bool) EventInfo {
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
	ended := object.Get("stop").Type == gjson.True
	return EventInfo{Answered: ended || HasContent(object.Get("content")), Ended: ended, Usage: Usage{
		Prompt: Count(object.Get("tokens_evaluated")), Completion: Count(object.Get("tokens_predicted")),
	}}
}

func (Generic) InspectBody(body []byte) EventInfo {
	object, failed := parseObject(body)
	if failed == NotJSON && gjson.ParseBytes(body).IsArray() && ValidJSON(body) {
		failed = "" // some of llama-server's answers are arrays
	}
	if failed != "" {
		return EventInfo{Failed: failed}
	}
	u := OpenAIUsage.In(object.Get("usage"))
	if u.Prompt != nil && u.Completion == nil {
		u.Completion = new(int64(0)) // embeddings and ranks use no completion tokens
	}
	return EventInfo{Answered: true, Ended: true, Usage: u}
}
