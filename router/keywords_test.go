package router

import (
	"net/http"
	"strings"
	"testing"
)

// TestKeysOfUpstreams: a backend that quotes the key that it was shown does not
// show it to a client, in a body, a header or a stream.
func TestKeysOfUpstreams(t *testing.T) {
	quoted := `{"error":{"message":"the key ` + cloudKey + ` is wrong"}}`
	for name, behave := range map[string]http.HandlerFunc{
		"a body":   status(401, quoted),
		"a header": status(401, `{}`, "X-Debug", "key="+cloudKey),
		"a stream": sends(ends, roleEvent, textEvent, "data: "+quoted+"\n\n"),
	} {
		b := newBench(t, answers, behave)
		r := b.chat("gpt-4o", name == "a stream")
		all := r.body
		for _, values := range r.header {
			all += strings.Join(values, "\n")
		}
		if strings.Contains(all, cloudKey) || !strings.Contains(all, "[key]") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
