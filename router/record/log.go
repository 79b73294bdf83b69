package record

import (
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/wire"
)

// Log writes the call's line into the log.
func (rec *Record) Log(log zerolog.Logger, duration time.Duration) {
	line := log.WithLevel(rec.logLevel()).
		Str("request_id", rec.Request.ID).Str("path", rec.Request.Path).Str("model", wire.Shorten(rec.Request.Body.Model)).
		Str("backend", rec.Backend).Str("reason", string(rec.Reason)).Int("status", rec.finalStatus())
	if rec.Request.Key != "" {
		line.Str("key", rec.Request.Key)
	}
	if rec.Request.FromBox != "" {
		line.Str("from_box", rec.Request.FromBox)
	}
	if rec.Detail != "" {
		line.Str("detail", rec.Detail)
	}
	if rec.Code != "" {
		line.Str("code", rec.Code)
	}
	if rec.Usage.Prompt != nil {
		line.Int64("prompt_tokens", *rec.Usage.Prompt)
	}
	if rec.Usage.Completion != nil {
		line.Int64("completion_tokens", *rec.Usage.Completion)
	}
	if rec.Wait.Place > 0 {
		line.Int("queue", rec.Wait.Place)
	}
	if rec.Wait.Time >= time.Millisecond {
		line.Int64("wait_ms", rec.Wait.Time.Milliseconds())
	}
	if rec.FirstAnswer > 0 {
		line.Int64("first_ms", rec.FirstAnswer.Milliseconds())
	}
	if rec.Resumed.By != "" {
		line.Str("resumed_by", rec.Resumed.By)
	}
	if err := rec.truncated(); err != nil {
		line.Str("cut", err.Error())
	}
	line.Int64("ms", duration.Milliseconds()).Msg("call")
}

// logLevel returns the level of the call's line in the log. Monitoring reads a server's state
// every few seconds, and its 503 says that no slot is free.
func (rec *Record) logLevel() zerolog.Level {
	switch {
	case rec.Request.Server && rec.Request.Method == http.MethodGet && rec.Backend != "":
		return zerolog.DebugLevel
	case rec.truncated() != nil, rec.finalStatus() >= http.StatusInternalServerError:
		return zerolog.WarnLevel
	}
	return zerolog.InfoLevel
}
