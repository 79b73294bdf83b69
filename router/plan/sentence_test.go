package plan

import (
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
)

func TestSentence(t *testing.T) {
	route := models.Route{Name: "local/a", Primary: "a"}
	for name, tc := range map[string]struct {
		Explanation
		want string
	}{
		"no fallback":  {Explanation{Route: route, Backend: "a", BackendModel: "a"}, "it goes to a as a; the route has no fallback"},
		"an alias":     {Explanation{Model: "b", Route: models.Route{Name: "local/a", Aliases: []string{"b"}}, Backend: "a", BackendModel: "a"}, "it is an alias of local/a, so it goes to a as a; the route has no fallback"},
		"one fallback": {Explanation{Route: route, Backend: "a", BackendModel: "a", Timeout: time.Minute, Next: []models.Fallback{{To: "b", Model: "m"}}}, "it goes to a as a; if that fails, or gives no answer within 1m0s, to b as m"},
		"three fallbacks": {
			Explanation{Route: route, Backend: "a", BackendModel: "a", Timeout: time.Minute, Next: []models.Fallback{{To: "b", Model: "m"}, {To: "c", Model: "n"}, {To: "d", Model: "o"}}},
			"it goes to a as a; if that fails, or gives no answer within 1m0s, to b as m, then to c as n, then to d as o",
		},
		"waits": {
			Explanation{Route: route, Backend: "a", BackendModel: "a", Timeout: time.Minute, WaitFor: "a is loading", WaitLimit: 10 * time.Second, Next: []models.Fallback{{To: "b", Model: "m"}}},
			"it goes to a as a; a is loading, so it waits for up to 10s; if that fails, or gives no answer within 1m0s, to b as m",
		},
		"would wait": {
			Explanation{Route: models.Route{Primary: "a", WhileLoading: models.WaitForTimeout}, Timeout: time.Minute, Backend: "a", BackendModel: "a", Next: []models.Fallback{{To: "b", Model: "m"}}},
			"it goes to a as a; while a loads, it would wait (while_loading: wait); if that fails, or gives no answer within 1m0s, to b as m",
		},
		"rejected": {Explanation{Rejected: "no such model", RejectedStatus: 404}, "it would be refused with 404: no such model"},
	} {
		if got := tc.Sentence(); got != tc.want {
			t.Errorf("%s: %s\nwant %s", name, got, tc.want)
		}
	}
}
