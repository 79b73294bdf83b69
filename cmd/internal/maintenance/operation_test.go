package maintenance

import (
	"context"
	"slices"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestCancel: a command ends the operations of the other kind that are about one of its
// servers, and says which.
func TestCancel(t *testing.T) {
	servers := func(names ...string) (list []Server) {
		for _, name := range names {
			list = append(list, Server{Name: name})
		}
		return list
	}
	for name, tc := range map[string]struct {
		operation []string
		command   []string
		want      string // "" = it goes on
	}{
		"all of all":      {[]string{"chat", "mail"}, []string{"chat", "mail"}, "of "},
		"one of all":      {[]string{"chat", "mail"}, []string{"chat"}, "of chat"},
		"two of three":    {[]string{"chat", "embed", "mail"}, []string{"chat", "mail"}, "of chat and mail"},
		"all of one":      {[]string{"chat"}, []string{"chat", "mail"}, "of "},
		"another one":     {[]string{"chat"}, []string{"mail"}, ""},
		"none at all":     {nil, []string{"mail"}, ""},
		"command of none": {[]string{"chat"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Manager{}
			other, o := newOperation(resumeCommand, servers(tc.operation...), true), newOperation(drainCommand, servers(tc.operation...), true)
			m.begin(other)
			m.begin(o)
			m.cancel(drainCommand, tc.command, func(names string) string { return "of " + names })
			if o.isDone() != (tc.want != "") {
				t.Errorf("over: %v", o.isDone())
			}
			if other.isDone() {
				t.Error("one of another command was ended")
			}
			o.end(control.StepDrained, "")
			var last control.Step
			if err := o.follow(context.Background(), func(s control.Step) error { last = s; return nil }); err != nil {
				t.Fatal(err)
			}
			if last.Text != tc.want || (last.Step == control.StepCancelled) != (tc.want != "") {
				t.Errorf("%+v, want %q", last, tc.want)
			}
			m.begin(newOperation(drainCommand, nil, false))
			if slices.Contains(m.operations, o) {
				t.Error("one that is over is remembered")
			}
		})
	}
}
