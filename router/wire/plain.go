package wire

import "github.com/tidwall/gjson"

// Plain is the dialect of all other endpoints: embeddings, rerank, and
// llama-server's own. Any answer that is not an error is one; llama-server's
// /infill streams events of which the last has "stop": true.
type Plain struct{ openAIErrors }

func (Plain) Read(e Event, _ bool) Meaning {
	if len(e.Data) == 0 {
		return Meaning{}
	}
	if IsDone(e.Data) {
		return Meaning{Ended: true}
	}
	object := gjson.ParseBytes(e.Data)
	if failed := ErrorIn(object); failed != "" {
		return Meaning{Failed: failed}
	}
	ended := object.Get("stop").Type == gjson.True
	return Meaning{Answered: ended || HasContent(object.Get("content")), Ended: ended, Usage: Usage{
		Prompt: Count(object.Get("tokens_evaluated")), Completion: Count(object.Get("tokens_predicted")),
	}}
}

func (Plain) Judge(body []byte) Meaning {
	object, failed := wellFormed(body)
	if failed == NotJSON && gjson.ParseBytes(body).IsArray() && ValidJSON(body) {
		failed = "" // some of llama-server's answers are arrays
	}
	if failed != "" {
		return Meaning{Failed: failed}
	}
	u := OpenAIUsage.In(object.Get("usage"))
	if u.Prompt != nil && u.Completion == nil {
		u.Completion = new(int64(0)) // embeddings and ranks are none
	}
	return Meaning{Answered: true, Ended: true, Usage: u}
}
