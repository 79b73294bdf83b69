package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	databaseName = "ledger.db"
	// busyTimeout is how long a lock of another process is waited for.
	busyTimeout = 100 * time.Millisecond
)

// database is the open database. The committer alone writes to it.
type database struct {
	path   string
	writer *sql.DB
	conn   *sql.Conn // of writer, its only one
	reader *sql.DB
	// file is the database's file, to see whether it is still what it was. It is
	// closed last: closing any descriptor of a file drops the process's locks on it.
	file  *os.File
	grown bool // there was something in it

	begin, commit, addDay, addKind, findKind *sql.Stmt
	// addCall is the driver's own: database/sql would add a quarter to its time.
	addCall      driver.StmtExecContext
	callArgs     [12]driver.NamedValue
	closeAddCall func() error
	kinds        map[Dimensions]int64 // ids of the table kind
	unsynced     bool                 // something was committed since the last sync
	converting   bool                 // the table batch has calls
	convertRows  int                  // how many rows of it are converted at once
	converted    int64                // how many were
	log          zerolog.Logger
}

// dsn names a file for the driver, with settings for each connection.
func dsn(path string, pragmas ...string) string {
	values := url.Values{"_pragma": pragmas}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + values.Encode()
}

// openDatabase opens the database, creates it where there is none, and brings it to
// the present version.
func openDatabase(path string, steps []string, log zerolog.Logger) (_ *database, err error) {
	d := &database{path: path, log: log, kinds: map[Dimensions]int64{}, convertRows: 8}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	busy := "busy_timeout(" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) + ")"
	// NORMAL: a commit is not synced, a checkpoint is. The cache of 300 KB holds the pages
	// that a commit changes; a larger one was not faster.
	d.writer, err = sql.Open("sqlite", dsn(path, busy, "page_size(16384)", "journal_mode(WAL)", "synchronous(NORMAL)", "wal_autocheckpoint(256)", "journal_size_limit(16000000)", "cache_size(-300)"))
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	if d.file, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	alignModes(path)
	if d.conn, err = d.writer.Conn(ctx); err != nil {
		return nil, err
	}
	if err = migrate(ctx, d.conn, steps); err != nil {
		return nil, err
	}
	statements := map[**sql.Stmt]string{&d.begin: "BEGIN IMMEDIATE", &d.commit: "COMMIT", &d.addDay: addToDay, &d.addKind: insertKind, &d.findKind: selectKind}
	for stmt, text := range statements {
		if *stmt, err = d.conn.PrepareContext(ctx, text); err != nil {
			return nil, err
		}
	}
	if d.reader, err = sql.Open("sqlite", dsn(path, busy, "query_only(1)", "cache_size(-8000)")); err != nil {
		return nil, err
	}
	if err = d.prepareAddCall(ctx); err != nil {
		return nil, err
	}
	if d.converting, err = d.hasBatch(ctx); err != nil {
		return nil, err
	}
	d.reader.SetMaxOpenConns(2)
	d.reader.SetConnMaxIdleTime(time.Minute) // to release its memory
	return d, nil
}

// prepareAddCall prepares the statement that inserts a row. It ends with its connection.
func (d *database) prepareAddCall(ctx context.Context) error {
	return d.conn.Raw(func(conn any) error {
		stmt, err := conn.(driver.ConnPrepareContext).PrepareContext(ctx, insertCall)
		if err != nil {
			return err
		}
		d.addCall = stmt.(driver.StmtExecContext)
		d.closeAddCall = stmt.Close
		return nil
	})
}

// alignModes gives SQLite's files beside the database the mode of the database.
// SQLite does so when it creates them: beside one that was read-only they would stay
// read-only, and keep it so.
func alignModes(path string) {
	info, err := os.Stat(path)
	if err != nil {
		return
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if beside, err := os.Stat(path + suffix); err == nil && beside.Mode() != info.Mode() {
			_ = os.Chmod(path+suffix, info.Mode().Perm()) // where that can't be done, opening it says why
		}
	}
}

// probe tries whether the database can be written to.
func (d *database) probe() error {
	return d.transaction(func(ctx context.Context) error {
		_, err := d.conn.ExecContext(ctx, "UPDATE kept SET since = since")
		return err
	})
}

// transaction runs something whole or not at all. When it returns nil, what was
// written is in the file that has the database's name.
func (d *database) transaction(run func(context.Context) error) error {
	ctx := context.Background() // one that can end costs a goroutine a statement
	if _, err := d.begin.ExecContext(ctx); err != nil {
		return err
	}
	err := run(ctx)
	if err == nil {
		_, err = d.commit.ExecContext(ctx)
	}
	if err != nil {
		_, _ = d.conn.ExecContext(ctx, "ROLLBACK") // where that fails too, the caller closes the connection
		return err
	}
	d.unsynced = true
	return d.check()
}

// sync has the disk sync what was committed so far, and releases the memory that SQLite
// used for it. What is not in the WAL any more was synced by SQLite's own checkpoint.
func (d *database) sync() error {
	wal, err := os.Open(d.path + "-wal")
	if err != nil {
		return err
	}
	err = wal.Sync()
	_ = wal.Close()
	if err == nil {
		d.unsynced = false
		_, err = d.conn.ExecContext(context.Background(), "PRAGMA shrink_memory")
	}
	return err
}

// errGone says that the database's file was removed or replaced.
var errGone = errors.New("the file was removed or replaced")

// errOverwritten says that the database's file is no database any more.
var errOverwritten = errors.New("the file was overwritten with something else")

// check says whether the file is still there and still a database. SQLite itself
// continues for long with what it has in memory, and then all of it is lost.
func (d *database) check() error {
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(d.path)
	if err != nil || !os.SameFile(info, named) {
		return errGone
	}
	const magic = "SQLite format 3\x00"
	head := make([]byte, len(magic))
	if n, _ := d.file.ReadAt(head, 0); string(head) != magic && (n > 0 || d.grown) { // a new one may be all in the log
		return errOverwritten
	}
	d.grown = d.grown || info.Size() > 0
	return nil
}

// close closes what is open. It reports nothing: all rows are committed.
func (d *database) close() {
	if d.reader != nil {
		_ = d.reader.Close()
	}
	if d.closeAddCall != nil {
		_ = d.closeAddCall()
	}
	for _, stmt := range []*sql.Stmt{d.begin, d.commit, d.addDay, d.addKind, d.findKind} {
		if stmt != nil {
			_ = stmt.Close()
		}
	}
	if d.conn != nil {
		_ = d.conn.Close()
	}
	if d.writer != nil {
		_ = d.writer.Close()
	}
	if d.file != nil {
		_ = d.file.Close()
	}
}

// quarantineFiles gives the files of a corrupt database another name, and returns it. What
// is open of them stays with them.
func quarantineFiles(path string, now time.Time) (string, error) {
	aside := path + ".corrupt-" + now.UTC().Format("20060102T150405.000Z")
	if err := os.Rename(path, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Rename(path+suffix, aside+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return aside, nil
}

// primaryCode is an error's code of SQLite, without its details; 0 = it is not
// SQLite's.
func primaryCode(err error) int {
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// isCorrupt returns whether an error means that the database is damaged.
func isCorrupt(err error) bool {
	code := primaryCode(err)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB || errors.Is(err, errOverwritten)
}

// isBusy returns whether another connection's lock was the only obstacle.
func isBusy(err error) bool {
	code := primaryCode(err)
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

// explain returns what keeps the database from working, and what to do.
func explain(path string, err error) string {
	what := strings.TrimSpace(err.Error())
	full := "the disk is full: make room in " + filepath.Dir(path)
	if errors.Is(err, unix.ENOSPC) {
		what = full
	}
	switch primaryCode(err) {
	case sqlite3.SQLITE_FULL:
		what = full
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		what = "another process holds it locked: end that, fuser " + path + " names it"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		what = "it can't be written to: look at its owner, its mode and how its file system is mounted"
	case sqlite3.SQLITE_CANTOPEN:
		what = "it can't be opened: look at the owner and the mode of " + filepath.Dir(path)
	default:
	}
	return fmt.Sprintf("%s: %s", path, what)
}
