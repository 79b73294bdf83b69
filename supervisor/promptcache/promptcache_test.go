package promptcache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// program is a Process that saves a byte for each token.
type program struct {
	dir      string
	slots    []Slot
	restored []int
	limit    string
	try      func() (string, error)
	save     func(bytes int64) (reported int64, err error) // what it reports to have saved
	tries    int
}

func (p *program) Slots(context.Context) ([]Slot, error) { return p.slots, nil }
func (p *program) Limit() string                         { return p.limit }

func (p *program) Save(ctx context.Context, slot int, file string) (int64, error) {
	i := slices.IndexFunc(p.slots, func(s Slot) bool { return s.ID == slot })
	bytes := int64(p.slots[i].Tokens)
	err := os.WriteFile(filepath.Join(p.dir, file), make([]byte, bytes), 0o644)
	if p.save != nil && err == nil {
		return p.save(bytes)
	}
	return bytes, errors.Join(err, ctx.Err())
}

func (p *program) Restore(_ context.Context, slot int, file string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(p.dir, file))
	p.restored = append(p.restored, slot)
	return len(raw), err
}

func (p *program) Try(context.Context, int, string) (string, error) {
	p.tries++
	if p.try == nil {
		return "", nil
	}
	return p.try()
}

// open returns a prepared Store and a program for it.
func open(t *testing.T, dir string) (*Store, *program) {
	t.Helper()
	s := Open(dir, zerolog.Nop())
	if folder := s.Prepare(true, "v1"); folder != s.Folder() {
		t.Fatalf("the folder is %q", folder)
	}
	p := &program{dir: s.Folder()}
	s.Restore(t.Context(), p)
	return s, p
}

func files(t *testing.T, s *Store) (names []string) {
	t.Helper()
	list, err := os.ReadDir(s.Folder())
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, f := range list {
		names = append(names, f.Name())
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	return names
}

// TestSaveAndRestore: which slots are saved of a process that processes 100 tokens a second,
// and what the next one gets.
func TestSaveAndRestore(t *testing.T) {
	slots := []Slot{{0, 50, false}, {1, 150, false}, {2, 400, true}, {3, 300, false}}
	full := func(bytes int64) (int64, error) { return bytes + 1, nil }
	for name, tc := range map[string]struct {
		edit  func(*program)
		speed float64
		saved string
		state string
	}{
		"those that take long":     {nil, 100, "slot1.bin slot3.bin", "kept across unloads"},
		"none takes long":          {nil, 1e6, "", ""},
		"the speed is not known":   {nil, 0, "", ""},
		"the disk is full":         {func(p *program) { p.save = full }, 100, "", ""},
		"it fails":                 {func(p *program) { p.save = func(int64) (int64, error) { return 0, errors.New("no") } }, 100, "", ""},
		"it cannot be used":        {func(p *program) { p.try = func() (string, error) { return "no use", nil } }, 100, "", "not supported: no use"},
		"it cannot be tried":       {func(p *program) { p.try = func() (string, error) { return "", errors.New("501") } }, 100, "", "not supported: an attempt failed: 501"},
		"the program has no slots": {func(p *program) { p.slots = nil }, 100, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := open(t, t.TempDir())
			p.slots = slices.Clone(slots)
			if tc.edit != nil {
				tc.edit(p)
			}
			s.Observe(assumedRate, 1000*tc.speed, 1000)
			s.Save(t.Context(), p)
			if got := strings.Join(files(t, s), " "); got != tc.saved || s.State() != tc.state {
				t.Errorf("saved %q, %q; want %q, %q", got, s.State(), tc.saved, tc.state)
			}
			if took := s.Rebuild(); tc.saved != "" && took != time.Second || tc.saved == "" && tc.speed > 0 && took != seconds(assumedRate/tc.speed) {
				t.Errorf("to have the prompts again takes %s", took)
			}
			s.Prepare(true, "v1")
			want := 0
			if tc.saved != "" {
				want = 450
			}
			if tokens := s.Restore(t.Context(), p); tokens != want || want > 0 && !slices.Equal(p.restored, []int{3, 1}) {
				t.Errorf("restored %d tokens of %v", tokens, p.restored)
			}
			if _, err := os.Stat(s.Folder()); !os.IsNotExist(err) {
				t.Errorf("the program can write into the folder: %v", err)
			}
		})
	}
}

// TestTriedOnce: whether caches can be kept is found out once for each version of a model, and
// known after a restart of llmsup; the saved files are not.
func TestTriedOnce(t *testing.T) {
	dir := t.TempDir()
	long := []Slot{{0, 300, false}}
	s, p := open(t, dir)
	p.slots = long
	for range 2 {
		s.Observe(0, 1000, 10)
		s.Save(t.Context(), p)
	}
	if p.tries != 1 || len(files(t, s)) != 1 {
		t.Errorf("%d tries", p.tries)
	}

	s, p = open(t, dir)
	if got := files(t, s); got != nil || p.restored != nil || s.State() != "kept across unloads" {
		t.Errorf("after a restart: %v, %v, %q", got, p.restored, s.State())
	}
	p.slots = long
	s.Observe(0, 1000, 10)
	s.Save(t.Context(), p)
	if p.tries != 0 {
		t.Error("it was tried again after a restart")
	}
	s.Prepare(true, "v2")
	if got := files(t, s); got != nil || s.State() != "" {
		t.Errorf("another version: %v, %q", got, s.State())
	}
	s.Prepare(false, "v2")
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%v are left: %v", list, err)
	}
}

// TestLimit: a model whose restored caches cannot be used is neither tried nor saved.
func TestLimit(t *testing.T) {
	s, p := open(t, t.TempDir())
	p.slots, p.limit = []Slot{{0, 300, false}}, "it has recurrent layers"
	s.Restore(t.Context(), p)
	s.Observe(0, 1000, 10)
	s.Save(t.Context(), p)
	if got := files(t, s); got != nil || p.tries != 0 || s.State() != "not supported: it has recurrent layers" {
		t.Errorf("%v, %d tries, %q", got, p.tries, s.State())
	}
}

// TestRoom: a slot is not saved if its file would be larger than the disk's room.
func TestRoom(t *testing.T) {
	s, p := open(t, t.TempDir())
	p.slots = []Slot{{0, 1 << 40, false}, {1, 150, false}}
	s.Observe(0, 1000, 10)
	s.Save(t.Context(), p)
	if got := files(t, s); !slices.Equal(got, []string{"slot1.bin"}) {
		t.Errorf("saved %v", got)
	}
}

// TestBounded: saving takes no longer than to process the prompts again would.
func TestBounded(t *testing.T) {
	s, p := open(t, t.TempDir())
	p.slots = []Slot{{0, 300, false}, {1, 200, false}}
	var deadline time.Time
	s.Observe(0, 1000, 5)
	s.Save(t.Context(), deadlineOf{p, &deadline})
	if left := time.Until(deadline); left <= 0 || left > 2500*time.Millisecond {
		t.Errorf("it has %s", left)
	}
}

// deadlineOf records until when a program may save.
type deadlineOf struct {
	*program
	at *time.Time
}

func (d deadlineOf) Save(ctx context.Context, slot int, file string) (int64, error) {
	*d.at, _ = ctx.Deadline()
	return d.program.Save(ctx, slot, file)
}
