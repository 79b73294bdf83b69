package maintenance

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSaved: what is saved is loaded, and a drain of all alone is written as earlier
// versions did.
func TestSaved(t *testing.T) {
	const began = `"since":"2026-05-04T12:00:00Z"`
	for name, tc := range map[string]struct {
		record Record
		file   string
	}{
		"all":       {all(since(0), present...), `{` + began + `}`},
		"all, ends": {all(kept(until(since(0), 2)), present...), `{` + began + `,"until":"2026-05-04T14:00:00Z","keep_server":true}`},
		"no server": {all(since(0)), `{` + began + `}`},
		"one":       {named(map[string]Drain{"chat": until(since(0), 2)}), `{"servers":{"chat":{` + began + `,"until":"2026-05-04T14:00:00Z"}}}`},
		"two":       {named(map[string]Drain{"mail": since(0), "chat": kept(since(0))}), `{"servers":{"chat":{` + began + `,"keep_server":true},"mail":{` + began + `}}}`},
		"all, one more": {
			Record{All: new(since(0)), Servers: map[string]Drain{"chat": until(since(0), 2), "embed": since(0), "mail": since(0)}},
			`{` + began + `,"servers":{"chat":{` + began + `,"until":"2026-05-04T14:00:00Z"}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tc.record.Save(dir); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(Path(dir))
			if err != nil || string(raw) != tc.file+"\n" {
				t.Errorf("%v: %s\nwant %s", err, raw, tc.file)
			}
			if info, err := os.Stat(Path(dir)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			loaded, problem := load(dir, start)
			if problem != "" {
				t.Error(problem)
			}
			if !loaded.Same(tc.record) {
				t.Errorf("loaded %+v", loaded)
			}
			servers := present
			if len(tc.record.Servers) == 0 {
				servers = nil
			}
			wantRecord(t, loaded.Follow(servers), tc.record)
			if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
				t.Errorf("%v is left, %v", names, err)
			}
			if err := (Record{}).Save(dir); err != nil {
				t.Error(err)
			}
			if loaded, problem := load(dir, start); !loaded.Empty() || problem != "" {
				t.Errorf("after the end: %+v, %s", loaded, problem)
			}
		})
	}
	if err := (Record{}).Save(t.TempDir()); err != nil {
		t.Errorf("where none is remembered: %v", err)
	}
}

// TestDamaged: a file that cannot be read drains all servers, whatever it was.
func TestDamaged(t *testing.T) {
	for name, content := range map[string]string{
		"cut off": `{"since":"2026-05-`, "empty": "", "zeros": "\x00\x00", "no object": `[1]`, "null": `null`, "nothing": `{}`,
		"no servers": `{"servers":{}}`, "no time": `{"until":"2026-05-04T14:00:00Z"}`, "a wrong time": `{"since":"yesterday"}`,
		"a server without": `{"since":"2026-05-04T12:00:00Z","servers":{"chat":{}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(Path(dir), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			wantDamaged(t, dir)
		})
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(Path(dir), "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := wantDamaged(t, dir)
	if err := r.Save(dir); err == nil {
		t.Error("a folder was replaced")
	}
	if err := (Record{}).Save(dir); err == nil {
		t.Error("a folder that is not empty was removed")
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("%v is left, %v", names, err)
	}
}

func wantDamaged(t *testing.T, dir string) Record {
	t.Helper()
	r, problem := load(dir, start)
	if !strings.HasPrefix(problem, Path(dir)+" cannot be read: ") {
		t.Errorf("problem %q", problem)
	}
	for _, name := range append(present, "new") {
		drain, drained := r.Follow(present).Of(name)
		if !drained || !drain.Since.Equal(start) || !drain.Until.IsZero() || drain.KeepServer || !strings.Contains(drain.Reason(), problem+"; llmsup resume ends it") {
			t.Errorf("%s: %+v %v: %s", name, drain, drained, drain.Reason())
		}
	}
	// The next request for it makes an ordinary drain of it.
	if again := r.Drain(Request{Servers: []string{"chat"}}, present, after(time.Hour)); strings.Contains(again.Servers["chat"].Reason(), "cannot be read") || !again.Servers["chat"].Since.Equal(start) {
		t.Errorf("%+v", again)
	}
	return r
}

// TestRestore: at noon, for chat and mail.
func TestRestore(t *testing.T) {
	const before, later = `"since":"2026-05-04T08:00:00Z"`, `"until":"2026-05-04T15:00:00Z"`
	const over = `"until":"2026-05-04T11:00:00Z"`
	for name, tc := range map[string]struct {
		file    string
		drained string
		after   string // the file; "" = as it was
	}{
		"of an earlier version": {`{` + before + `}`, "chat mail", ""},
		"with an end":           {`{` + before + `,` + later + `,"keep_server":true}`, "chat mail", ""},
		"over":                  {`{` + before + `,` + over + `}`, "", "none"},
		"one":                   {`{"servers":{"mail":{` + before + `}}}`, "mail", ""},
		"one is over":           {`{"servers":{"chat":{` + before + `},"mail":{` + before + `,` + over + `}}}`, "chat", `{"servers":{"chat":{` + before + `}}}`},
		"one of all is over":    {`{` + before + `,"servers":{"mail":{` + before + `,` + over + `}}}`, "chat", `{"servers":{"chat":{` + before + `}}}`},
		"all but one are over":  {`{` + before + `,` + over + `,"servers":{"mail":{` + before + `}}}`, "mail", `{"servers":{"mail":{` + before + `}}}`},
		"one that was removed":  {`{"servers":{"embed":{` + before + `}}}`, "", "none"},
		"cannot be read":        {`{`, "chat mail", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(Path(dir), []byte(tc.file+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			r, warning := Restore(dir, []string{"chat", "mail"}, start)
			if got := strings.Join(slices.Sorted(maps.Keys(r.Servers)), " "); got != tc.drained {
				t.Errorf("drained are %q, want %q", got, tc.drained)
			}
			if (warning != "") != (tc.file == "{") {
				t.Errorf("warning %q", warning)
			}
			raw, _ := os.ReadFile(Path(dir)) // there may be none
			if got := cmp.Or(strings.TrimSpace(string(raw)), "none"); got != cmp.Or(tc.after, tc.file) {
				t.Errorf("the file is %s, want %s", got, cmp.Or(tc.after, tc.file))
			}
		})
	}
}
