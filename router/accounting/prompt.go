package accounting

import (
	"bytes"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// promptTokensOf returns an upper estimate of the tokens of a request's prompt.
func promptTokensOf(r *request.Request) int64 {
	if _, ok := r.Dialect.(wire.Audio); ok || r.Body.Form {
		return max(minAttachmentTokens, r.Body.Size()/audioTokenBytes)
	}
	return promptTokens(r.Body.Raw)
}

// isBase64 reports whether a value, which may begin as a data URL, is base64 of either
// alphabet. PHP escapes a slash with a backslash.
func isBase64(value []byte) bool {
	if _, data, found := bytes.Cut(value[:min(len(value), maxDataURLHead)], []byte(";base64,")); found {
		value = value[min(len(value), maxDataURLHead)-len(data):]
	}
	for _, c := range value {
		if !base64Bytes[c] {
			return false
		}
	}
	return true
}

var base64Bytes = func() (is [256]bool) {
	for _, c := range []byte(`ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\`) {
		is[c] = true
	}
	return is
}()

// attachmentMarks precede an attachment: the beginning of a data URL, and of the base64 in
// OpenAI's and Anthropic's objects.
var attachmentMarks = [...][]byte{[]byte(`"data:`), []byte(`"data":"`), []byte(`"data": "`)}

// maxDataURLHead is the longest part of a data URL before its base64, in bytes.
const maxDataURLHead = 256

// promptTokens estimates the tokens of a body. An attachment extends to its closing quote.
func promptTokens(raw []byte) (tokens int64) {
	var next [len(attachmentMarks)]int // the next position of each mark, so that each part of raw is searched once
	for i := range next {
		next[i] = -1
	}
	text := 0
	for from := 0; from < len(raw); {
		at := len(raw)
		for i, mark := range attachmentMarks {
			if next[i] < from {
				next[i] = len(raw)
				if found := bytes.Index(raw[from:], mark); found >= 0 {
					next[i] = from + found
				}
			}
			at = min(at, next[i]+len(mark))
		}
		at = min(at, len(raw))
		text += at - from
		size := bytes.IndexByte(raw[at:], '"')
		if size < 0 {
			size = len(raw) - at
		}
		value := raw[at : at+size]
		if bytes.HasSuffix(raw[:at], attachmentMarks[0]) && !bytes.Contains(value[:min(size, maxDataURLHead)], []byte(";base64,")) {
			value = nil // text that begins as a data URL
		}
		if len(value) >= minAttachment && !isBase64(value) {
			value = nil
		}
		if len(value) >= minAttachment {
			tokens += max(minAttachmentTokens, int64(size)/attachmentTokenBytes)
		} else {
			text += size
		}
		from = at + size
	}
	return tokens + int64(text/tokenBytes) + 1
}
