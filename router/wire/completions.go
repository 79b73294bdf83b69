package wire

import "github.com/tidwall/gjson"

// Completions is the dialect of /v1/completions.
var Completions = Choices{carries: func(choice gjson.Result) bool { return HasContent(choice.Get("text")) }}
