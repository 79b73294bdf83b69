package pick

import (
	"github.com/cespare/xxhash/v2"
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// Call is what picking a box needs to know of a call.
type Call struct {
	Conversation  uint64 // the same for all turns; 0 = the call has no earlier turn
	Model         string
	PromptTokens  int // estimated
	EarlierTokens int // estimated; those of PromptTokens that the conversation's home box has cached
}

// tokenBytes is how many bytes of text are taken for a token: about what English has.
const tokenBytes = 4

// attachmentTokens are assumed for an image or another attachment.
const attachmentTokens = 1000

// CallOf returns the Call of a request. Only chats have turns: those of chat completions,
// messages and responses. Turns of one conversation have the same system prompt, and the same
// first message of the user.
func CallOf(r *request.Request) Call {
	c := Call{Model: r.Body.Model}
	if r.Body.Form || len(r.Body.Raw) == 0 {
		return c
	}
	chat := conversation{}
	var messages []byte
	wire.Scan(r.Body.Raw, func(m wire.Member) {
		value := r.Body.Raw[m.From:m.To]
		switch string(wire.MemberName(r.Body.Raw[m.KeyFrom:m.KeyTo])) {
		case "system", "instructions": // of messages, and of responses
			chat.add(gjson.ParseBytes(value))
		case "messages", "input":
			messages = value
		case "tools", "prompt", "query", "documents":
			chat.bytes += len(value)
		}
	})
	if len(messages) > 0 {
		chat.readMessages(gjson.ParseBytes(messages))
	}
	c.PromptTokens = chat.bytes / tokenBytes
	if chat.answers > 0 {
		c.Conversation, c.EarlierTokens = max(chat.hash, 1), chat.earlier/tokenBytes
	}
	return c
}

// conversation is what is read of a chat.
type conversation struct {
	hash    uint64 // of its beginning
	begun   bool   // the first message of the user has been read
	bytes   int    // of text
	earlier int    // of bytes, those up to the last answer
	answers int    // messages of the assistant
}

func (c *conversation) readMessages(list gjson.Result) {
	if !list.IsArray() {
		c.add(list)
		return
	}
	list.ForEach(func(_, m gjson.Result) bool {
		if !m.IsObject() { // one of several inputs
			c.add(m)
			return true
		}
		role, kind, content := "", "", gjson.Result{}
		m.ForEach(func(key, value gjson.Result) bool {
			switch key.Str {
			case "role":
				role = value.Str
			case "type":
				kind = value.Str
			case "content":
				content = value
			default: // calls of tools and their results
				c.bytes += len(value.Raw)
			}
			return true
		})
		c.add(content)
		switch {
		case role == "user":
			c.begun = true
		case role == "assistant", role == "" && kind != "function_call_output":
			c.answers, c.earlier = c.answers+1, c.bytes
		}
		return true
	})
}

// add takes over a content: a text, or a list of parts. Of a part only the text identifies the
// conversation: clients move marks for prompt caches, which are beside it, from call to call.
func (c *conversation) add(content gjson.Result) {
	if !content.IsArray() {
		c.addText(content.Str)
		return
	}
	content.ForEach(func(_, part gjson.Result) bool {
		switch text := part.Get("text"); {
		case text.Type == gjson.String:
			c.addText(text.Str)
		case part.Get("type").Str == "tool_use", part.Get("type").Str == "tool_result":
			c.bytes += len(part.Raw)
		default:
			c.bytes += attachmentTokens * tokenBytes
		}
		return true
	})
}

func (c *conversation) addText(text string) {
	c.bytes += len(text)
	if !c.begun {
		c.hash = mix(c.hash + xxhash.Sum64String(text))
	}
}
