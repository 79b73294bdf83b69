package llamacpp

import (
	"slices"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
)

// description returns what is known of the model by now.
func (p *probe) description() models.Description {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.model
}

// answered records that a test call was answered, and refused that llama-server does not
// support its kind.
func (p *probe) answered(a models.Ability) {
	if a == models.Completion {
		p.learn(true, models.Chat, a)
		return
	}
	p.learn(true, a)
}

func (p *probe) refused(a models.Ability) {
	if a == models.Completion {
		p.learn(false, append(chatAbilities[:], a)...)
		return
	}
	p.learn(false, a)
}

// chatAbilities are those that only a model has that generates.
var chatAbilities = [...]models.Ability{models.Chat, models.Vision, models.Audio, models.Tools}

// learn sets whether the model has some abilities.
func (p *probe) learn(has bool, which ...models.Ability) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.model.Abilities = changed(p.model.Abilities, has, which...)
}

// changed returns a copy of a list with some abilities in it, or without them.
func changed(list []models.Ability, has bool, which ...models.Ability) []models.Ability {
	list = slices.DeleteFunc(slices.Clone(list), func(a models.Ability) bool { return slices.Contains(which, a) })
	if has {
		list = append(list, which...)
	}
	slices.SortFunc(list, models.CompareAbilities)
	return list
}

// refine adds to a description what a loaded llama-server reports in /props. A build that
// does not report a value leaves it as it was.
func refine(d models.Description, props gjson.Result) models.Description {
	if n := props.Get("default_generation_settings.n_ctx").Int(); n > 0 {
		d.CtxSize = int(n)
	}
	if !d.Can(models.Chat) {
		return d
	}
	for path, ability := range map[string]models.Ability{
		"modalities.vision": models.Vision, "modalities.audio": models.Audio, "chat_template_caps.supports_tools": models.Tools,
	} {
		if v := props.Get(path); v.IsBool() {
			d.Abilities = changed(d.Abilities, v.Bool(), ability)
		}
	}
	return d
}
