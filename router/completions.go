package router

import "github.com/tidwall/gjson"

// completions is the dialect of /v1/completions.
var completions = choices{carries: func(choice gjson.Result) bool { return hasContent(choice.Get("text")) }}
