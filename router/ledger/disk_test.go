package ledger

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
)

// disk is one that a test can have hang: nothing that is written to it comes to its
// end meanwhile.
type disk struct {
	busy  sync.RWMutex
	stuck chan struct{} // receives when a write waits
}

func newDisk() *disk { return &disk{stuck: make(chan struct{}, 1)} }

// pass returns when it does not hang.
func (d *disk) pass() {
	if !d.busy.TryRLock() {
		wake(d.stuck)
		d.busy.RLock()
	}
	d.busy.RUnlock()
}

func (d *disk) writeAt(f *os.File, b []byte, at int64) (int, error) {
	d.pass()
	return f.WriteAt(b, at)
}

// hang returns what ends it.
func (d *disk) hang() (release func()) {
	select {
	case <-d.stuck: // the last time
	default:
	}
	d.busy.Lock()
	return sync.OnceFunc(d.busy.Unlock)
}

// whileHung calls record while the disk hangs, and fails the test if it waits for the disk.
func (d *disk) whileHung(t *testing.T, record func()) {
	t.Helper()
	defer d.hang()()
	done := make(chan struct{})
	go func() {
		defer close(done)
		record()
	}()
	select {
	case <-done:
	case <-time.After(waitLimit):
		t.Fatal("recording waits for a disk that hangs")
	}
}

// A full disk: what is paid for is durable all the same as long as the reserve
// lasts, what is free waits in memory, and all of it comes in when there is room.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		notRun(t, "only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		notRun(t, fmt.Sprintf("no small file system can be mounted: %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	disk := newDisk()
	l, output := open(t, dir, Options{writeAt: disk.writeAt})
	var want []string
	add := func(name string) Row {
		want = append(want, name)
		return free(name)
	}
	l.Record(add("before"))
	synced(t, l)
	const rounds = 2
	for round := range rounds {
		filler := filepath.Join(dir, "filler")
		fill(t, filler)
		for n := 0; ; n++ { // until what the log has left is used up, too
			if n > 100_000 {
				t.Fatal("the disk is not full")
			}
			var r *Receipt
			disk.whileHung(t, func() { r = l.Record(add(fmt.Sprintf("fills-%d-%d", round, n))) })
			r.Wait()
			if strings.Contains(l.State().Reason, "the journal in ") { // the database may be without room before
				break
			}
		}
		awaitCondition(t, l, Spilling, "the disk is full: free space in "+dir)
		awaitCondition(t, l, Spilling, "; the journal in ")
		for i := range 1500 { // nearly all that there is room for
			name := fmt.Sprintf("full-%d-%d", round, i)
			want = append(want, name)
			var r *Receipt
			disk.whileHung(t, func() { r = l.Record(paid(name, 1)); l.Record(add("with-" + name)) })
			written(t, r)
		}
		if files := journals(t, dir); len(files) == 0 {
			t.Fatal("nothing is in the journal")
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		synced(t, l)
	}
	l.Record(add("after"))
	synced(t, l)
	closeLedger(t, l)
	once(t, dir, want)
	if files := journals(t, dir); len(files) > 0 {
		t.Errorf("not read back: %q", files)
	}
	if n := strings.Count(output.String(), "cannot store rows"); n < rounds || n > 3*rounds {
		t.Errorf("it was logged %d times in %d rounds that rows cannot be stored:\n%s", n, rounds, output)
	}
}

func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 16, 1 << 12, 1} {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				if !errors.Is(err, unix.ENOSPC) {
					t.Fatal(err)
				}
				break
			}
		}
	}
}

// A disk that is full at the end of one llmsup and the beginning of the next.
func TestDiskFullAtTheEnd(t *testing.T) {
	if os.Geteuid() != 0 {
		notRun(t, "only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		notRun(t, fmt.Sprintf("no small file system can be mounted: %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	l, _ := open(t, dir, Options{})
	l.Record(free("before"))
	synced(t, l)
	closeLedger(t, l)
	l, _ = open(t, dir, Options{})
	synced(t, l)
	fill(t, filepath.Join(dir, "filler"))
	for i := range 50 {
		written(t, l.Record(paid(fmt.Sprint("full-", i), 1)))
	}
	closeLedger(t, l)
	l, _ = open(t, dir, Options{})
	for i := range 5 {
		if r := l.Record(paid(fmt.Sprint("next-", i), 1)); i == 0 {
			r.Wait() // the reserve is in use by what is in it, so this may stay in memory
		}
	}
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	synced(t, l)
	closeLedger(t, l)
	found := requests(t, dir)
	if len(found) != 56 {
		t.Errorf("%d requests have rows: %v", len(found), found)
	}
}

// A database that cannot be written to, at the start and from then on.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	l.Record(free("before"))
	synced(t, l)
	closeLedger(t, l)
	path := filepath.Join(dir, databaseName)
	writable := func() error { return os.Chmod(path, 0o600) }
	if os.Geteuid() != 0 {
		if err := os.Chmod(path, 0o400); err != nil {
			t.Fatal(err)
		}
	} else { // root may write to every file, but for one that is mounted so
		if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
			notRun(t, fmt.Sprintf("nothing can be mounted: %v", err))
		}
		if err := unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		writable = func() error { return unix.Unmount(path, unix.MNT_DETACH) }
	}
	disk := newDisk()
	l, _ = open(t, dir, Options{writeAt: disk.writeAt})
	awaitCondition(t, l, Spilling, "it is read-only: check its owner")
	for i := range 50 {
		var r *Receipt
		disk.whileHung(t, func() { r = l.Record(paid(fmt.Sprint("read-only-", i), 1)) })
		written(t, r)
	}
	if err := writable(); err != nil {
		t.Fatal(err)
	}
	synced(t, l)
	closeLedger(t, l)
	if found := requests(t, dir); len(found) != 51 {
		t.Errorf("%d requests have rows: %v", len(found), found)
	}
}

// The file is overwritten, emptied, removed or replaced in mid-run: it is noticed
// at the next row, what comes from then on is in a new one, and what is left of the
// old one is kept.
func TestFileIsOverwritten(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(path string) error
		aside  bool
		logged string
	}{
		"garbled": {func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.Write([]byte(strings.Repeat("garbage ", int(info.Size()/8))))
			return errors.Join(err, f.Close())
		}, true, "overwritten"},
		"emptied": {func(path string) error { return os.Truncate(path, 0) }, true, "overwritten"},
		"removed": {os.Remove, false, "removed or replaced"},
		"replaced": {func(path string) error {
			return errors.Join(os.Rename(path, path+".x"), os.WriteFile(path, nil, 0o600))
		}, false, "removed or replaced"},
	} {
		for when, reopen := range map[string]bool{"in use for long": false, "just opened": true} {
			t.Run(name+", "+when, func(t *testing.T) {
				dir := t.TempDir()
				disk := newDisk()
				l, output := open(t, dir, Options{writeAt: disk.writeAt})
				for i := range 500 {
					l.Record(free(fmt.Sprint("before-", i)))
				}
				synced(t, l)
				if reopen { // now it is all in the file, and SQLite has none of it in memory
					closeLedger(t, l)
					l, output = open(t, dir, Options{writeAt: disk.writeAt})
					synced(t, l)
				}
				if err := c.spoil(filepath.Join(dir, databaseName)); err != nil {
					t.Fatal(err)
				}
				var want []string
				for i := range 100 {
					want = append(want, fmt.Sprint("after-", i))
					var r *Receipt
					disk.whileHung(t, func() { r = l.Record(paid(want[i], 1)) })
					written(t, r)
				}
				synced(t, l)
				aside := l.State().Quarantined
				if (aside != "") != c.aside {
					t.Errorf("kept as %q", aside)
				}
				if _, err := os.Stat(aside); c.aside && err != nil {
					t.Error(err)
				}
				if !reopen && !strings.Contains(output.String(), c.logged) {
					t.Errorf("logged %s, want %q", output, c.logged)
				}
				closeLedger(t, l)
				once(t, dir, want)
			})
		}
	}
}

// The folder is removed in mid-run, or what is in it. What is written to files that
// have no name any more is lost, so nothing may be taken for durable there.
func TestFolderIsRemoved(t *testing.T) {
	for name, c := range map[string]struct {
		remove func(dir string) error
		repair func(dir string) error // nil = not needed
	}{
		"the folder":        {os.RemoveAll, nil},
		"moved away":        {func(dir string) error { return os.Rename(dir, dir+".x") }, nil},
		"all that it has":   {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)) }, nil},
		"a file is instead": {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }, os.Remove},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ledger")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			l, _ := open(t, dir, Options{})
			written(t, l.Record(paid("before", 1)))
			synced(t, l)
			if err := c.remove(dir); err != nil {
				t.Fatal(err)
			}
			var want []string
			var receipts []*Receipt
			for i := range 20 {
				want = append(want, fmt.Sprint("after-", i))
				receipts = append(receipts, l.Record(paid(want[i], 1)))
			}
			if c.repair != nil {
				awaitCondition(t, l, Spilling, "cannot be written")
				for _, r := range receipts {
					select {
					case <-r.written:
						t.Fatal("a row is taken for durable that is on no disk")
					default:
					}
				}
				if err := c.repair(dir); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range receipts {
				written(t, r)
			}
			synced(t, l)
			closeLedger(t, l)
			once(t, dir, want)
		})
	}
}

// A database that was overwritten while llmsup did not run.
func TestCorruptAtTheStart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, databaseName)
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	l, _ := open(t, dir, Options{})
	written(t, l.Record(paid("p", 1)))
	synced(t, l)
	raw, err := os.ReadFile(l.State().Quarantined)
	if err != nil || !strings.HasPrefix(string(raw), "no database ") {
		t.Errorf("kept as %q: %.20q, %v", l.State().Quarantined, raw, err)
	}
	closeLedger(t, l)
	once(t, dir, []string{"p"})
}

// A reader reports a corrupt database to the committer.
func TestReaderFindsItCorrupt(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	for i := range 2000 {
		l.Record(free(fmt.Sprint(i)))
	}
	synced(t, l)
	closeLedger(t, l)
	l, _ = open(t, dir, Options{})
	synced(t, l)
	f, err := os.OpenFile(filepath.Join(dir, databaseName), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("garbage ", 8192)), 4096); err != nil { // all but the first page
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := l.Usages(t.Context(), time.Time{}, time.Time{}, ByModel); err == nil {
		t.Fatal("garbage is added up")
	}
	awaitCondition(t, l, Spilling, "malformed")
	written(t, l.Record(paid("p", 1)))
	synced(t, l)
	closeLedger(t, l)
	once(t, dir, []string{"p"})
}

// While another process has locked the database, neither a call nor a query waits for it.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	synced(t, l)
	release := lock(t, dir)
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint("p", i), fmt.Sprint("f", i))
		l.Record(free(want[2*i+1]))
		written(t, l.Record(paid(want[2*i], 1)))
	}
	s := awaitCondition(t, l, Spilling, "another process has locked it")
	if s.Lag <= 0 {
		t.Errorf("state %+v: no lag", s)
	}
	if _, err := l.Usages(t.Context(), time.Time{}, time.Time{}, ByDay); err != nil {
		t.Errorf("reading is refused: %v", err)
	}
	release()
	synced(t, l)
	closeLedger(t, l)
	once(t, dir, want)
	if files := journals(t, dir); len(files) > 0 {
		t.Errorf("not read back: %q", files)
	}
}

// While the disk hangs, calls wait at most a second, and the memory for rows is bounded,
// except for those of paid calls.
func TestDiskHangs(t *testing.T) {
	dir := t.TempDir()
	disk := newDisk()
	l, output := open(t, dir, Options{maxWaiting: 100, writeAt: disk.writeAt})
	synced(t, l)
	unlock := lock(t, dir)
	lost := 0
	disk.whileHung(t, func() {
		l.Record(paid("is at the disk", 1))
		<-disk.stuck
		for i := range 500 {
			l.Record(free(fmt.Sprint("f", i)))
		}
		for i := range 500 {
			l.Record(paid(fmt.Sprint("p", i), 1))
		}
		began := time.Now()
		if l.Record(paid("waits", 1)).Wait() {
			t.Error("a row is durable on a disk that hangs")
		}
		if waited := time.Since(began); waited < maxWait {
			t.Errorf("waited %s", waited)
		}
		s := l.State()
		if lost = s.Lost; s.Condition != Spilling || lost < 400 || lost > 401 || s.Lag < maxWait { // the first one may be with the database again
			t.Errorf("state %+v", s)
		}
	})
	unlock()
	synced(t, l)
	closeLedger(t, l)
	if found := requests(t, dir); len(found) != 1002-lost {
		t.Errorf("%d rows, want 502 that were paid for, and all free ones but %d", len(found), lost)
	}
	if !strings.Contains(output.String(), "are dropped") {
		t.Errorf("logged %s", output)
	}
}

// A database whose writes hang, on a disk that does too: recording continues. When the
// disk works again, all rows are in the journal.
func TestDatabaseHangs(t *testing.T) {
	database := newDisk()
	name := fmt.Sprint("wait_", time.Now().UnixNano()) // the driver knows it for ever
	sqlite.MustRegisterScalarFunction(name, 0, func(*sqlite.FunctionContext, []driver.Value) (driver.Value, error) {
		database.pass()
		return int64(0), nil
	})
	dir := t.TempDir()
	disk := newDisk()
	l, _ := open(t, dir, Options{writeAt: disk.writeAt, migrations: append(slices.Clone(migrations), fmt.Sprintf("CREATE TRIGGER hangs BEFORE INSERT ON calls BEGIN SELECT %s(); END", name))})
	synced(t, l)
	release := database.hang()
	defer release()
	want := []string{"is at the database"}
	receipts := []*Receipt{l.Record(paid("is at the database", 1))}
	<-database.stuck
	disk.whileHung(t, func() {
		for i := range 300 {
			want = append(want, fmt.Sprint("f", i), fmt.Sprint("p", i))
			l.Record(free(fmt.Sprint("f", i)))
			receipts = append(receipts, l.Record(paid(fmt.Sprint("p", i), 1)))
		}
	})
	for _, r := range receipts {
		written(t, r)
	}
	if len(journals(t, dir)) != 2 {
		t.Error("the rows are not in the file that is imported and in the next one")
	}
	release()
	synced(t, l)
	closeLedger(t, l)
	once(t, dir, want)
}
