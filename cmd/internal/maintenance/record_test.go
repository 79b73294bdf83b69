package maintenance

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// start is when the records of these tests begin.
var start = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return start.Add(d) }

var present = []string{"chat", "embed", "mail"}

// since is a drain that began some hours after start.
func since(hours int) Drain { return Drain{Since: after(time.Duration(hours) * time.Hour)} }

func until(d Drain, hours int) Drain {
	d.Until = after(time.Duration(hours) * time.Hour)
	return d
}

func kept(d Drain) Drain {
	d.KeepServer = true
	return d
}

func all(d Drain, servers ...string) Record {
	r := Record{All: &d, Servers: map[string]Drain{}}
	for _, name := range servers {
		r.Servers[name] = d
	}
	return r
}

func named(drains map[string]Drain) Record { return Record{Servers: drains} }

func wantRecord(t *testing.T, got, want Record) {
	t.Helper()
	same := (got.All == nil) == (want.All == nil) && (got.All == nil || got.All.equal(*want.All))
	if !same || !maps.EqualFunc(got.Servers, want.Servers, Drain.equal) {
		t.Errorf("got all %+v, servers %+v\nwant all %+v, servers %+v", got.All, got.Servers, want.All, want.Servers)
	}
}

// TestRequests: what a request, made two hours after start, changes.
func TestRequests(t *testing.T) {
	const hour = time.Hour
	for name, tc := range map[string]struct {
		before  Record
		request Request
		want    Record
	}{
		"all":                {Record{}, Request{}, all(since(2), present...)},
		"all with an end":    {Record{}, Request{For: hour}, all(until(since(2), 3), present...)},
		"one":                {Record{}, Request{Servers: []string{"chat"}}, named(map[string]Drain{"chat": since(2)})},
		"one, kept":          {Record{}, Request{Servers: []string{"chat"}, KeepServer: true}, named(map[string]Drain{"chat": kept(since(2))})},
		"a second one":       {named(map[string]Drain{"chat": until(since(0), 2)}), Request{Servers: []string{"mail"}}, named(map[string]Drain{"chat": until(since(0), 2), "mail": since(2)})},
		"again":              {named(map[string]Drain{"chat": since(0)}), Request{Servers: []string{"chat"}}, named(map[string]Drain{"chat": since(0)})},
		"again keeps an end": {named(map[string]Drain{"chat": until(since(0), 9)}), Request{Servers: []string{"chat"}}, named(map[string]Drain{"chat": until(since(0), 9)})},
		"another end":        {named(map[string]Drain{"chat": until(since(0), 9)}), Request{Servers: []string{"chat"}, For: hour}, named(map[string]Drain{"chat": until(since(0), 3)})},
		"goes further":       {named(map[string]Drain{"chat": kept(since(0))}), Request{Servers: []string{"chat"}}, named(map[string]Drain{"chat": since(0)})},
		"goes less far":      {named(map[string]Drain{"chat": since(0)}), Request{Servers: []string{"chat"}, KeepServer: true}, named(map[string]Drain{"chat": since(0)})},
		"all after one": {
			named(map[string]Drain{"chat": until(since(0), 9)}),
			Request{},
			Record{All: new(since(2)), Servers: map[string]Drain{"chat": until(since(0), 9), "embed": since(2), "mail": since(2)}},
		},
		"one after all": {
			all(until(since(0), 9), present...),
			Request{Servers: []string{"chat"}, For: hour},
			Record{All: new(until(since(0), 9)), Servers: map[string]Drain{"chat": until(since(0), 3), "embed": until(since(0), 9), "mail": until(since(0), 9)}},
		},
		"all again": {all(kept(since(0)), present...), Request{For: hour}, all(until(since(0), 3), present...)},
	} {
		t.Run(name, func(t *testing.T) {
			before := Record{All: tc.before.All, Servers: maps.Clone(tc.before.Servers)}
			wantRecord(t, tc.before.Drain(tc.request, present, after(2*time.Hour)), tc.want)
			wantRecord(t, tc.before, before)
		})
	}
}

// TestCallsUntil: how long running calls may take is that of the newest request that
// says so.
func TestCallsUntil(t *testing.T) {
	chat := []string{"chat"}
	r := Record{}
	for _, step := range []struct {
		request Request
		want    time.Duration // after start
	}{
		{Request{Servers: chat}, DefaultTimeout},
		{Request{Servers: chat, Timeout: time.Minute}, time.Minute},
		{Request{Servers: chat, For: time.Hour}, time.Minute},
		{Request{}, time.Minute},
		{Request{Timeout: time.Second}, time.Second},
	} {
		r = r.Drain(step.request, present, start)
		if got := r.Servers["chat"].Options().Until; !got.Equal(after(step.want)) {
			t.Errorf("%+v: until %s, want %s", step.request, got, after(step.want))
		}
	}
	if got := r.Servers["mail"].Options().Until; !got.Equal(after(time.Second)) {
		t.Errorf("of another one: %s", got)
	}
	if got := since(0).Options().Until; !got.IsZero() {
		t.Errorf("of one that is remembered: %s, want the supervisor's own", got)
	}
}

func TestDrainOptions(t *testing.T) {
	h := kept(until(since(0), 3)).Options()
	if !h.Ends.Equal(after(3*time.Hour)) || !h.Keep || !strings.Contains(h.Reason, ", until 2026-05-04 ") {
		t.Errorf("%+v", h)
	}
	if h := since(0).Options(); !h.Ends.IsZero() || h.Keep || !strings.HasSuffix(h.Reason, ", until llmsup resume") {
		t.Errorf("%+v", h)
	}
}

func TestResume(t *testing.T) {
	for name, tc := range map[string]struct {
		before Record
		resume []string
		want   Record
	}{
		"one of one":    {named(map[string]Drain{"chat": since(0)}), []string{"chat"}, Record{}},
		"one of two":    {named(map[string]Drain{"chat": since(0), "mail": since(1)}), []string{"chat"}, named(map[string]Drain{"mail": since(1)})},
		"one of all":    {all(since(0), present...), []string{"chat"}, named(map[string]Drain{"embed": since(0), "mail": since(0)})},
		"each of all":   {all(since(0), present...), present, Record{}},
		"one in use":    {named(map[string]Drain{"mail": since(1)}), []string{"chat"}, named(map[string]Drain{"mail": since(1)})},
		"none is meant": {all(since(0), present...), nil, all(since(0), present...)},
	} {
		t.Run(name, func(t *testing.T) { wantRecord(t, tc.before.Resume(tc.resume), tc.want) })
	}
}

// TestExpire: two hours after start.
func TestExpire(t *testing.T) {
	for name, tc := range map[string]struct {
		before Record
		want   Record
		ended  string
		next   time.Time // the end after that
	}{
		"none":           {Record{}, Record{}, "", time.Time{}},
		"no end":         {all(since(0), present...), all(since(0), present...), "", time.Time{}},
		"not yet":        {named(map[string]Drain{"chat": until(since(0), 3)}), named(map[string]Drain{"chat": until(since(0), 3)}), "", after(3 * time.Hour)},
		"now":            {named(map[string]Drain{"chat": until(since(0), 2)}), Record{}, "chat", time.Time{}},
		"long ago":       {all(until(since(0), 1), present...), Record{}, "chat embed mail", time.Time{}},
		"all, no server": {all(until(since(0), 1)), Record{}, "", time.Time{}},
		"one of two":     {named(map[string]Drain{"chat": until(since(0), 1), "mail": until(since(0), 4)}), named(map[string]Drain{"mail": until(since(0), 4)}), "chat", after(4 * time.Hour)},
		"all but one": {
			Record{All: new(until(since(0), 1)), Servers: map[string]Drain{"chat": until(since(0), 1), "mail": since(0)}},
			named(map[string]Drain{"mail": since(0)}), "chat",
			time.Time{},
		},
		"one of all": {
			Record{All: new(since(0)), Servers: map[string]Drain{"chat": until(since(0), 1), "mail": since(0)}},
			named(map[string]Drain{"mail": since(0)}), "chat",
			time.Time{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			next, ended := tc.before.Expire(after(2 * time.Hour))
			wantRecord(t, next, tc.want)
			if got := strings.Join(ended, " "); got != tc.ended {
				t.Errorf("ended %q, want %q", got, tc.ended)
			}
			if got := next.NextEnd(); !got.Equal(tc.next) {
				t.Errorf("the next end is at %s, want %s", got, tc.next)
			}
		})
	}
}

// TestFollow: after a reload that removes mail and adds new.
func TestFollow(t *testing.T) {
	reloaded := []string{"chat", "embed", "new"}
	for name, tc := range map[string]struct{ before, want Record }{
		"none":           {Record{}, Record{}},
		"all":            {all(since(0), present...), all(since(0), reloaded...)},
		"one that stays": {named(map[string]Drain{"chat": since(0)}), named(map[string]Drain{"chat": since(0)})},
		"one that goes":  {named(map[string]Drain{"chat": since(0), "mail": since(0)}), named(map[string]Drain{"chat": since(0)})},
		"the only one":   {named(map[string]Drain{"mail": since(0)}), Record{}},
		"all and one":    {Record{All: new(since(1)), Servers: map[string]Drain{"chat": since(0)}}, Record{All: new(since(1)), Servers: map[string]Drain{"chat": since(0), "embed": since(1), "new": since(1)}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.before.Follow(reloaded)
			wantRecord(t, got, tc.want)
			if _, drained := got.Of("other"); drained != (tc.want.All != nil) {
				t.Errorf("a server that is added later: drained is %v", drained)
			}
		})
	}
}

func TestTogether(t *testing.T) {
	for name, tc := range map[string]struct {
		record  Record
		present []string
		want    Drain
		drained bool
	}{
		"none":            {Record{}, present, Drain{}, false},
		"no server":       {Record{}, nil, Drain{}, false},
		"all of none":     {all(until(since(0), 4)), nil, until(since(0), 4), true},
		"all":             {all(kept(until(since(0), 4)), present...), present, kept(until(since(0), 4)), true},
		"all but one":     {named(map[string]Drain{"chat": since(0), "mail": since(0)}), present, Drain{}, false},
		"each by itself":  {named(map[string]Drain{"chat": until(since(0), 9), "embed": kept(since(1)), "mail": until(since(0), 5)}), present, kept(until(since(1), 5)), true},
		"one of one":      {named(map[string]Drain{"chat": since(0)}), []string{"chat"}, since(0), true},
		"all, and longer": {Record{All: new(until(since(0), 4)), Servers: map[string]Drain{"chat": since(0)}}, []string{"chat"}, since(0), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got, drained := tc.record.Together(tc.present); drained != tc.drained || !got.equal(tc.want) {
				t.Errorf("%+v %v, want %+v %v", got, drained, tc.want, tc.drained)
			}
		})
	}
}

func TestResumeHint(t *testing.T) {
	at := func(hours int) string { return clock(after(time.Duration(hours) * time.Hour)) }
	for name, tc := range map[string]struct {
		record  Record
		servers []string
		named   bool
		want    string
	}{
		"all":           {all(since(0), present...), present, false, "llmsup resume takes the servers into use again"},
		"no server":     {all(since(0)), nil, false, "llmsup resume takes the servers into use again"},
		"all with end":  {all(until(since(0), 4), present...), present, false, "the servers are taken into use again at " + at(4) + ", or by llmsup resume"},
		"none with end": {all(until(since(0), 4)), nil, false, "the servers are taken into use again at " + at(4) + ", or by llmsup resume"},
		"one":           {named(map[string]Drain{"chat": since(0)}), []string{"chat"}, true, "llmsup resume chat takes chat into use again"},
		"one with end":  {named(map[string]Drain{"chat": until(since(0), 4)}), []string{"chat"}, true, "chat is taken into use again at " + at(4) + ", or by llmsup resume chat"},
		"two":           {named(map[string]Drain{"chat": since(0), "mail": since(1)}), []string{"chat", "mail"}, true, "llmsup resume chat mail takes chat and mail into use again"},
		"two with ends": {named(map[string]Drain{"chat": until(since(0), 4), "mail": until(since(0), 5)}), []string{"chat", "mail"}, true, "chat is taken into use again at " + at(4) + ", mail is taken into use again at " + at(5) + "; llmsup resume chat mail takes all of them into use again"},
		"one of two":    {named(map[string]Drain{"chat": until(since(0), 4), "mail": since(1)}), []string{"chat", "mail"}, false, "chat is taken into use again at " + at(4) + "; llmsup resume takes all of them into use again"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.record.ResumeHint(tc.servers, tc.named); got != tc.want {
				t.Errorf("%s\nwant %s", got, tc.want)
			}
		})
	}
}

// TestRecordsAreValues: a later request leaves the records before it as they are.
func TestRecordsAreValues(t *testing.T) {
	first := Record{}.Drain(Request{}, present, start)
	before := slices.Sorted(maps.Keys(first.Servers))
	since := first.All.Since
	first.Drain(Request{For: time.Hour}, append(present, "new"), after(time.Hour))
	first.Resume([]string{"chat"})
	first.Follow(nil)
	first.Expire(after(time.Hour))
	if got := slices.Sorted(maps.Keys(first.Servers)); !slices.Equal(got, before) || !first.All.Since.Equal(since) || !first.All.Until.IsZero() {
		t.Errorf("%+v", first)
	}
}
