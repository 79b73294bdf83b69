package router

import "github.com/tidwall/gjson"

// plain is the dialect of all other endpoints: embeddings, rerank, and
// llama-server's own. Any answer that is not an error is one; llama-server's
// /infill streams events of which the last has "stop": true.
type plain struct{ openAIErrors }

func (plain) read(e event, _ bool) meaning {
	if len(e.data) == 0 {
		return meaning{}
	}
	if isDone(e.data) {
		return meaning{ended: true}
	}
	object := gjson.ParseBytes(e.data)
	if failed := errorIn(object); failed != "" {
		return meaning{failed: failed}
	}
	ended := object.Get("stop").Type == gjson.True
	return meaning{answered: ended || hasContent(object.Get("content")), ended: ended, usage: usage{
		prompt: count(object.Get("tokens_evaluated")), completion: count(object.Get("tokens_predicted")),
	}}
}

func (plain) judge(body []byte) meaning {
	object, failed := wellFormed(body)
	if failed == notJSON && gjson.ParseBytes(body).IsArray() && validJSON(body) {
		failed = "" // some of llama-server's answers are arrays
	}
	if failed != "" {
		return meaning{failed: failed}
	}
	u := openAIUsage.in(object.Get("usage"))
	if u.prompt != nil && u.completion == nil {
		u.completion = new(int64(0)) // embeddings and ranks are none
	}
	return meaning{answered: true, ended: true, usage: u}
}
