package wire

import "testing"

func TestAudioDialect(t *testing.T) {
	const delta, done = `{"type":"transcript.text.delta","delta":" 1"}`, `{"type":"transcript.text.done","text":" 1","usage":{"input_tokens":14,"output_tokens":3}}`
	for data, want := range map[string]EventInfo{
		"":                           {},
		"[DONE]":                     {Ended: true},
		delta:                        {Answered: true},
		`{"error":{"message":"no"}}`: {Failed: "no"},
		`{"choices":[{"delta":{}}]}`: {},
		`{"choices":[{"delta":{"content":"x"}}]}`: {Answered: true},
	} {
		if got := (Audio{}).InspectEvent(Event{Data: []byte(data)}, false); got != want {
			t.Errorf("%s: %+v, want %+v", data, got, want)
		}
	}
	if got := (Audio{}).InspectEvent(Event{Data: []byte(done)}, true); !got.Answered || !got.Ended || *got.Usage.Prompt != 14 || *got.Usage.Completion != 3 {
		t.Errorf("%+v", got)
	}
	for text, failed := range map[string]string{
		"": "an empty answer", "\n": "", " 1 2\n": "", "1\n00:00 --> 00:01\nx": "", `{"text":""}`: "", `{"error":{"message":"no"}}`: "no",
	} {
		if got := (Audio{}).InspectBody([]byte(text)); got.Failed != failed {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
