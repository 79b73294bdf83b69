package enginetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// answers are the paths of the API, below its base path.
var answers = map[string]func(*engine, http.ResponseWriter, *http.Request){
	"/models":               models,
	"/chat/completions":     chat,
	"/embeddings":           list("input", map[string]any{"object": "embedding", "index": 0, "embedding": []float64{0.5, 0.25}}),
	"/moderations":          list("input", map[string]any{"flagged": false}),
	"/rerank":               list("documents", map[string]any{"index": 0, "relevance_score": 0.5}),
	"/images/generations":   images,
	"/images/edits":         images,
	"/audio/speech":         speech,
	"/audio/transcriptions": transcription,
	"/audio/translations":   transcription,
}

// SpeechChunks is how many pieces an answer with audio has. Each is SpeechChunk.
const SpeechChunks = 20

// SpeechChunk returns a piece of an answer with audio.
func SpeechChunk(n int) string { return fmt.Sprintf("audio %02d;", n) }

func models(e *engine, w http.ResponseWriter, _ *http.Request) {
	write(w, map[string]any{"object": "list", "data": []any{map[string]any{"id": e.name, "object": "model"}}})
}

// body reads a JSON object.
func body(w http.ResponseWriter, r *http.Request) (map[string]any, bool) {
	var object map[string]any
	if err := json.NewDecoder(r.Body).Decode(&object); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return nil, false
	}
	return object, true
}

// list returns an answer with one entry for each item of a field of the request.
func list(field string, entry map[string]any) func(*engine, http.ResponseWriter, *http.Request) {
	return func(_ *engine, w http.ResponseWriter, r *http.Request) {
		object, ok := body(w, r)
		if !ok {
			return
		}
		items, many := object[field].([]any)
		if !many {
			items = []any{object[field]}
		}
		var data []any
		for range items {
			data = append(data, entry)
		}
		write(w, map[string]any{"object": "list", "model": object["model"], "data": data, "results": data, "usage": map[string]any{"prompt_tokens": len(items), "total_tokens": len(items)}})
	}
}

func images(_ *engine, w http.ResponseWriter, r *http.Request) {
	n := 1
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		r.Body = http.MaxBytesReader(w, r.Body, 1<<30)
		if err := r.ParseMultipartForm(1 << 20); err != nil { //nolint:gosec // it is bounded
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		_, _ = fmt.Sscan(r.FormValue("n"), &n)
	} else if object, ok := body(w, r); !ok {
		return
	} else if f, ok := object["n"].(float64); ok {
		n = int(f)
	}
	var data []any
	for range n {
		data = append(data, map[string]any{"b64_json": "aW1hZ2U="})
	}
	write(w, map[string]any{"created": 1, "data": data})
}

// speech sends audio in pieces. If its input is "wait", it waits after the first piece until a test
// calls /test/continue.
func speech(e *engine, w http.ResponseWriter, r *http.Request) {
	object, ok := body(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "audio/mpeg")
	for n := range SpeechChunks {
		_, _ = io.WriteString(w, SpeechChunk(n))
		_ = http.NewResponseController(w).Flush()
		if n == 0 && object["input"] == "wait" {
			select {
			case <-e.proceed:
			case <-r.Context().Done():
			}
		}
		if !e.pause(r) {
			return
		}
	}
}

// transcription reads a form of any size, and answers how many bytes its file has.
func transcription(_ *engine, w http.ResponseWriter, r *http.Request) {
	form, err := r.MultipartReader()
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	fields, bytes := map[string]string{}, int64(0)
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		if part.FormName() == "file" {
			if bytes, err = io.Copy(io.Discard, part); err != nil {
				fail(w, http.StatusBadRequest, err.Error())
				return
			}
			continue
		}
		value, _ := io.ReadAll(part)
		fields[part.FormName()] = string(value)
	}
	write(w, map[string]any{"text": fmt.Sprintf("%d bytes for %s", bytes, fields["model"])})
}

// chat counts up to max_tokens.
func chat(e *engine, w http.ResponseWriter, r *http.Request) {
	object, ok := body(w, r)
	if !ok {
		return
	}
	most := 3
	if f, ok := object["max_tokens"].(float64); ok {
		most = int(f)
	}
	common := func(choice map[string]any, kind string) map[string]any {
		return map[string]any{"id": "chatcmpl-1", "object": kind, "created": 1, "model": object["model"], "choices": []any{choice}}
	}
	if object["stream"] != true {
		var text strings.Builder
		for n := range most {
			fmt.Fprintf(&text, " %d", n+1)
		}
		answer := common(map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": text.String()}}, "chat.completion")
		answer["usage"] = map[string]any{"prompt_tokens": 1, "completion_tokens": most, "total_tokens": 1 + most}
		write(w, answer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event := func(choice map[string]any) {
		raw, _ := json.Marshal(common(choice, "chat.completion.chunk"))
		fmt.Fprintf(w, "data: %s\n\n", raw)
		_ = http.NewResponseController(w).Flush()
	}
	for n := range most {
		event(map[string]any{"index": 0, "delta": map[string]any{"content": fmt.Sprintf(" %d", n+1)}})
		if !e.pause(r) {
			return
		}
	}
	event(map[string]any{"index": 0, "delta": map[string]any{}, "finish_reason": "stop"})
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// pause waits between two pieces of an answer, and returns false if the client has gone.
func (e *engine) pause(r *http.Request) bool {
	select {
	case <-r.Context().Done():
		return false
	case <-time.After(e.chunk):
		return true
	}
}

func write(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}
