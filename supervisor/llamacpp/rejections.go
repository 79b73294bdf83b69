package llamacpp

import (
	"regexp"

	"github.com/llmsup/llmsup/models"
)

// rejections are the errors about a request that llama-server answers with 500; it answers all
// others with 400. Seen with build 11669.
var rejections = []models.Rejection{
	{
		Message: regexp.MustCompile(`^input \(\d+ tokens\) is too large to process\. increase the physical batch size`), Reason: models.ReasonContextOverflow,
		Advice: "shorten the input, or raise --batch-size and --ubatch-size in the server's args",
	},
	{
		Message: regexp.MustCompile(`^(image|audio|video) input is not supported - hint: `), Reason: models.ReasonUnsupported,
		Advice: "send text only, or choose a model that reads such input",
	},
	{
		Message: regexp.MustCompile(`the current context does not support logits computation`), Reason: models.ReasonUnsupported,
		Advice: "the model writes no text; call /v1/embeddings or /v1/rerank",
	},
	{Message: regexp.MustCompile(`^tools param requires --jinja flag`), Reason: models.ReasonUnsupported},
	{Message: regexp.MustCompile(`^Failed to parse (messages|tools): `), Reason: models.ReasonStatus},
	{Message: regexp.MustCompile(`^'messages' is required`), Reason: models.ReasonStatus}, // at /v1/messages
	{Message: regexp.MustCompile(`^Cannot use both json_schema and grammar`), Reason: models.ReasonStatus},
	{Message: regexp.MustCompile(`^Unknown reasoning format: `), Reason: models.ReasonStatus},
	{
		Message: regexp.MustCompile(`^vector::_M_range_check: `), Reason: models.ReasonStatus, // at /detokenize
		Advice: "the model has no token of this number",
	},
}
