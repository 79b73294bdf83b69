package price

import (
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
)

// sharedWords has each list of words once: the models of an upstream have the same few.
type sharedWords map[string][]string

// share returns the stored one of equal lists.
func (s sharedWords) share(list []string) []string {
	key := strings.Join(list, "\n")
	if _, known := s[key]; !known {
		s[key] = list
	}
	return s[key]
}

// shareAll replaces the lists of a model.
func (s sharedWords) shareAll(l *models.Listed) {
	l.Input, l.Output, l.Parameters = s.share(l.Input), s.share(l.Output), s.share(l.Parameters)
}

// parseListed reads an entry of an upstream's /models. Beside OpenRouter's names of the
// fields it knows those of llmsup, llama-server, vLLM, Groq and Mistral. A value of another
// type counts as unknown.
func parseListed(m gjson.Result) models.Listed {
	l := models.Listed{
		ID: strings.Clone(m.Get("id").Str), Name: strings.Clone(m.Get("name").Str), Created: int64(count(m, "created")),
		Context:    count(m, "context_length", "max_model_len", "context_window", "max_context_length", "meta.n_ctx"),
		MaxOutput:  count(m, "top_provider.max_completion_tokens", "max_output_tokens", "max_completion_tokens"),
		Input:      words(m.Get("architecture.input_modalities")),
		Output:     words(m.Get("architecture.output_modalities")),
		Parameters: words(m.Get("supported_parameters")),
	}
	for _, word := range words(m.Get("capabilities")) { // llmsup's own
		if a := models.Ability(word); slices.Contains(allAbilities, a) {
			l.Abilities = append(l.Abilities, a)
		}
	}
	if l.Abilities == nil {
		l.Abilities = abilities(l)
	}
	return l
}

var allAbilities = []models.Ability{models.Chat, models.Completion, models.Embedding, models.Rerank, models.Vision, models.Audio, models.Tools}

// abilities returns what a model can do by its modalities; nil = unknown.
func abilities(l models.Listed) (list []models.Ability) {
	for _, has := range []struct {
		ability models.Ability
		in      []string
		word    string
	}{
		{models.Chat, l.Output, "text"},
		{models.Embedding, l.Output, "embeddings"},
		{models.Rerank, l.Output, "rerank"},
		{models.Vision, l.Input, "image"},
		{models.Audio, l.Input, "audio"},
		{models.Tools, l.Parameters, "tools"},
	} {
		if l.Output != nil && slices.Contains(has.in, has.word) {
			list = append(list, has.ability)
		}
	}
	return list
}

// count returns the first of some fields that is a positive number; 0 = none is.
func count(m gjson.Result, paths ...string) int {
	for _, path := range paths {
		if v := m.Get(path); v.Type == gjson.Number && v.Num >= 1 && v.Num <= 1<<40 {
			return int(v.Num)
		}
	}
	return 0
}

// words returns a list of words; nil = it is not one, or it is empty.
func words(v gjson.Result) (list []string) {
	const maxWords = 100
	if !v.IsArray() {
		return nil
	}
	v.ForEach(func(_, word gjson.Result) bool {
		if word.Type == gjson.String && word.Str != "" && len(list) < maxWords {
			list = append(list, strings.Clone(word.Str)) // not a part of the whole entry
		}
		return true
	})
	return list
}
