package wire

import "github.com/tidwall/gjson"

// Completions is the dialect of /v1/completions.
var Completions = Choices{hasContent: func(choice gjson.Result) bool { return HasContent(choice.Get("text")) }}
