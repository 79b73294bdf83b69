package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/router/resume"
)

// TestEcho: what a continuation repeats of the text before it is taken out, in
// whatever pieces it comes; what is new stays, and so does the text's own space.
func TestEcho(t *testing.T) {
	const before = " 1, of a list that is long enough"
	for name, tc := range map[string]struct{ before, more, finish, want string }{
		"nothing again":               {before, ", and 2", "stop", ", and 2"},
		"all of it again":             {before, before + ", and 2", "stop", ", and 2"},
		"without its space":           {before, strings.TrimSpace(before) + ", and 2", "stop", ", and 2"},
		"with other space":            {before, "\n\n" + before + ", and 2", "stop", ", and 2"},
		"new, with space":             {before, "\n\n2", "stop", "\n\n2"},
		"only space":                  {before, " \n", "stop", " \n"},
		"begins alike, and is new":    {before, " 1, of a list that ends", "stop", " 1, of a list that ends"},
		"ends within, by itself":      {before, " 1, of a list that is", "stop", " 1, of a list that is"},
		"ends within, for its limit":  {before, " 1, of a list that is", "length", ""},
		"begins alike, for its limit": {before, " 1, of", "length", " 1, of"},
		"again, and not a word more":  {before, before, "stop", ""},
		"too short to tell":           {" 1 1 1", " 1 1 1 1", "stop", " 1 1 1 1"},
		"a short sentence":            {"The capital of France", "The capital of France is Paris.", "stop", " is Paris."},
		"nothing":                     {before, "", "stop", ""},
	} {
		for size := 1; size <= len(tc.more)+1; size++ {
			e := resume.NewOverlapFilter(tc.before)
			var got strings.Builder
			for rest := tc.more; rest != ""; {
				n := min(size, len(rest))
				got.WriteString(e.Filter(rest[:n]))
				rest = rest[n:]
			}
			got.WriteString(e.Flush(tc.finish))
			if got.String() != tc.want {
				t.Errorf("%s, in pieces of %d: %q, want %q", name, size, got.String(), tc.want)
			}
		}
	}
}

// TestStoryOfAlikeEvents: an event that differs from the last one in its text alone
// is heard as any other.
func TestStoryOfAlikeEvents(t *testing.T) {
	event := func(created int, text, finish string) string {
		return fmt.Sprintf(`{"choices":[{"finish_reason":%s,"index":0,"delta":{"content":%s}}],"created":%d,"id":"x","model":"m"}`, finish, text, created)
	}
	s := resume.Transcript{Dialect: resume.ChatText{}}
	var want strings.Builder
	for i, text := range []string{" 1", " 2", `a \"quoted\" one`, " 3", `back\\slash`, "}],", " 4", "", `é`, `é`, " 5", `"`, " 6"} {
		quoted := `"` + text + `"`
		if text == `"` {
			quoted = `"\""`
		}
		s.Observe([]byte(event(i/5, quoted, "null")))
		want.WriteString(strings.NewReplacer(`\"`, `"`, `\\`, `\`, `é`, "é").Replace(text))
	}
	if s.Text.String() != want.String() || s.Tokens != 12 || s.NotResumable != "" || s.Finish != "" || s.Header.ID != "x" {
		t.Errorf("%q, %d tokens, spoiled %q, finish %q; want %q", s.Text.String(), s.Tokens, s.NotResumable, s.Finish, want.String())
	}
	s.Observe([]byte(`{"choices":[{"finish_reason":null,"index":0,"delta":{"content":" 7","tool_calls":[{}]}}],"created":2,"id":"x","model":"m"}`))
	if s.NotResumable == "" {
		t.Error("a tool call between texts is not noticed")
	}
	s = resume.Transcript{Dialect: resume.ChatText{}}
	s.Observe([]byte(event(0, `" 1"`, "null")))
	s.Observe([]byte(event(0, `" 2"`, `"stop"`)))
	if s.Finish != "stop" || s.Text.String() != " 1 2" {
		t.Errorf("finish %q, %q", s.Finish, s.Text.String())
	}
	if allocs := testing.AllocsPerRun(100, func() { s.Observe([]byte(event(0, `" 1"`, "null"))) }); s.Text.Len() == 0 || allocs > 20 {
		t.Errorf("%g allocations", allocs)
	}
}

// TestDegradedIsBetterThanNobody: a degraded server is asked when the fallback has
// failed; nobody pays for that twice.
func TestDegradedIsBetterThanNobody(t *testing.T) {
	for name, cloud := range map[string]func(*bench){
		"refuses":    func(b *bench) { b.cloud.behave = status(429, `{"error":{"message":"slow down"}}`) },
		"no credit":  func(b *bench) { b.cloud.behave = status(402, `{"error":{"message":"no credit"}}`) },
		"is gone":    func(b *bench) { b.cloud.CloseClientConnections(); b.cloud.Listener.Close() },
		"breaks off": func(b *bench) { b.cloud.behave = breaks },
	} {
		for _, stream := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", stream ", stream), func(t *testing.T) {
				b := newBench(t, nil, answers)
				b.local.behave = b.local.well()
				b.state.set(func(s *LocalState) { s.Reason, s.Detail = Degraded, "is degraded: it is hot" })
				cloud(b)
				if r := b.chat("local/qwen", stream); r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
					t.Errorf("%+v", r)
				}
				if n := len(b.cloud.calls()); n > 1 {
					t.Errorf("the cloud was asked %d times", n)
				}
			})
		}
	}
	b := newBench(t, status(500, `{"error":{"message":"hot"}}`), status(402, `{"error":{"message":"no credit"}}`))
	b.state.set(func(s *LocalState) { s.Reason, s.Detail = Degraded, "is degraded: it is hot" })
	if r := b.chat("local/qwen", false); r.status < 500 || !strings.Contains(r.body, "no credit") || !strings.Contains(r.body, "qwen") {
		t.Errorf("both failed: %+v", r)
	}
}

// TestPeersBytesAreNotQuoted: what a backend sent in the place of a header is not
// told to anybody, whatever it is.
func TestPeersBytesAreNotQuoted(t *testing.T) {
	for name, answer := range map[string]string{
		"a header without a colon": "HTTP/1.1 200 OK\r\nBearer " + cloudKey + "\r\n\r\n",
		"a strange length":         "HTTP/1.1 200 OK\r\nContent-Length: " + cloudKey + "\r\n\r\n",
		"no status":                "the answer is " + cloudKey + "\r\n\r\n",
		"a strange coding":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + cloudKey + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, answers, raw(answer))
			r := b.chat("gpt-4o", false)
			if r.status != 502 || strings.Contains(r.body, cloudKey) || strings.Contains(b.log.String(), cloudKey) {
				t.Errorf("%+v\n%s", r, b.log)
			}
		})
	}
}
