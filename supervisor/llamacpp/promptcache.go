package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/supervisor/promptcache"
)

// slotSavePath is the flag with the folder where slots may be saved. Without it, llama-server
// refuses to (501); if the folder is missing at its start, it does not start; if it is missing
// later, saving fails (500).
const slotSavePath = "--slot-save-path"

var _ promptcache.Process = (*probe)(nil)

// savesCaches reports whether a llama-server is started so that llmsup can save its slots.
func savesCaches(spec supervisor.Spec, build features) bool {
	return build.slotSavePath && spec.CacheFolder != "" && !slices.ContainsFunc(spec.Args, func(arg string) bool {
		return strings.ReplaceAll(arg, "_", "-") == slotSavePath // the operator saves them
	})
}

// Limit implements promptcache.Process.
func (p *probe) Limit() string {
	d := p.description()
	if d.Can(models.Vision) || d.Can(models.Audio) {
		return "llama-server cannot save the cache of a multimodal model"
	}
	return d.CacheLimit
}

// cachedIn returns how many tokens a slot's cache holds. /slots shows those of a restored slot
// only after its next call.
func (p *probe) cachedIn(slot gjson.Result) int {
	id, shown := int(slot.Get("id").Int()), slot.Get("n_prompt_tokens")
	p.mu.Lock()
	defer p.mu.Unlock()
	if shown.Exists() {
		delete(p.restored, id)
		return int(shown.Int())
	}
	return p.restored[id]
}

// Slots implements promptcache.Process.
func (p *probe) Slots(ctx context.Context) (list []promptcache.Slot, err error) {
	status, body, err := p.get(ctx, "/slots")
	if err != nil {
		return nil, err
	}
	slots := gjson.ParseBytes(body)
	if status != http.StatusOK || !slots.IsArray() {
		return nil, fmt.Errorf("/slots answered %d", status)
	}
	slots.ForEach(func(_, slot gjson.Result) bool {
		list = append(list, promptcache.Slot{ID: int(slot.Get("id").Int()), Tokens: p.cachedIn(slot), Busy: slot.Get("is_processing").Bool()})
		return true
	})
	return list, nil
}

// Save implements promptcache.Process.
func (p *probe) Save(ctx context.Context, slot int, file string) (bytes int64, err error) {
	answer, err := p.slotAction(ctx, slot, "save", file)
	return answer.Get("n_written").Int(), err
}

// Restore implements promptcache.Process.
func (p *probe) Restore(ctx context.Context, slot int, file string) (tokens int, err error) {
	answer, err := p.slotAction(ctx, slot, "restore", file)
	if err != nil {
		return 0, err
	}
	tokens = int(answer.Get("n_restored").Int())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.restored == nil {
		p.restored = map[int]int{}
	}
	p.restored[slot] = tokens
	return tokens, nil
}

// Try implements promptcache.Process.
func (p *probe) Try(ctx context.Context, slot int, file string) (reason string, err error) {
	if _, err := p.cachedOf(ctx, slot); err != nil {
		return "", err
	}
	for _, action := range []string{"save", "erase", "restore"} {
		if _, err := p.slotAction(ctx, slot, action, file); err != nil {
			return "", err
		}
	}
	cached, err := p.cachedOf(ctx, slot)
	if err == nil && cached < 0.5 {
		reason = "llama-server does not use a restored cache of this model"
	}
	return reason, err
}

// cachedOf makes a small call in a slot, and returns the share of its prompt that was cached.
func (p *probe) cachedOf(ctx context.Context, slot int) (float64, error) {
	prompt := strings.Repeat("1 2 3 4 ", 16)
	status, body, err := p.do(ctx, http.MethodPost, "/completion", fmt.Sprintf(`{"prompt":%q,"n_predict":1,"id_slot":%d,"cache_prompt":true}`, prompt, slot))
	if err != nil {
		return 0, err
	}
	timings := gjson.GetBytes(body, "timings")
	processed, cached := timings.Get("prompt_n").Float(), timings.Get("cache_n")
	switch {
	case status != http.StatusOK:
		return 0, fmt.Errorf("/completion answered %d%s", status, messageIn(body))
	case !cached.Exists():
		return 0, errors.New("this build does not report what was cached")
	}
	return cached.Float() / max(processed+cached.Float(), 1), nil
}

// slotAction has llama-server save, restore or erase a slot.
func (p *probe) slotAction(ctx context.Context, slot int, action, file string) (answer gjson.Result, err error) {
	status, body, err := p.do(ctx, http.MethodPost, fmt.Sprintf("/slots/%d?action=%s", slot, action), fmt.Sprintf(`{"filename":%q}`, file))
	if err != nil {
		return answer, err
	}
	if status != http.StatusOK {
		return answer, fmt.Errorf("%s of slot %d answered %d%s", action, slot, status, messageIn(body))
	}
	return gjson.ParseBytes(body), nil
}
