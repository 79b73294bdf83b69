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
	// busyTimeout is how long SQLite waits for another process's lock.
	busyTimeout = 100 * time.Millisecond
)

// database is the open database. Only the committer writes to it.
type database struct {
	path   string
	writer *sql.DB
	conn   *sql.Conn // of writer, its only one
	reader *sql.DB
	// file is the database's file, to check that it was not replaced. It is closed last:
	// closing any descriptor of a file releases the process's locks on it.
	file       *os.File
	hasContent bool // the file had content

	begin, commit, addDay, addDimensions, findDimensions *sql.Stmt
	// addCall is the driver's statement: database/sql would add a quarter to its time.
	addCall      driver.StmtExecContext
	callArgs     [14]driver.NamedValue
	closeAddCall func() error
	dimensionIDs map[Dimensions]int64 // ids of the table kind
	unsynced     bool                 // something was committed since the last sync
	converting   bool                 // the table batch has calls
	convertRows  int                  // how many rows of it are converted in one transaction
	converted    int64                // how many were converted
	log          zerolog.Logger
}

// dsn returns the driver's name of a file, with settings for each connection.
func dsn(path string, pragmas ...string) string {
	values := url.Values{"_pragma": pragmas}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + values.Encode()
}

// openDatabase opens or creates the database, and migrates it to the present version.
func openDatabase(path string, steps []string, log zerolog.Logger) (_ *database, err error) {
	d := &database{path: path, log: log, dimensionIDs: map[Dimensions]int64{}, convertRows: 8}
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
	statements := map[**sql.Stmt]string{&d.begin: "BEGIN IMMEDIATE", &d.commit: "COMMIT", &d.addDay: addToDay, &d.addDimensions: insertDimensions, &d.findDimensions: selectDimensions}
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
	d.reader.SetConnMaxIdleTime(time.Minute) // releases its memory
	return d, nil
}

// prepareAddCall prepares the statement that inserts a row.
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

// alignModes gives SQLite's files beside the database the database's mode, as SQLite does
// when it creates them. Files that were created while the database was read-only would
// stay read-only, and the database with them.
func alignModes(path string) {
	info, err := os.Stat(path)
	if err != nil {
		return
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if beside, err := os.Stat(path + suffix); err == nil && beside.Mode() != info.Mode() {
			_ = os.Chmod(path+suffix, info.Mode().Perm()) // if it fails, opening the database reports the reason
		}
	}
}

// probe tests whether the database can be written.
func (d *database) probe() error {
	return d.transaction(func(ctx context.Context) error {
		_, err := d.conn.ExecContext(ctx, "UPDATE kept SET since = since")
		return err
	})
}

// transaction runs statements in one transaction. If it returns nil, the changes are in
// the file that has the database's name.
func (d *database) transaction(run func(context.Context) error) error {
	ctx := context.Background() // a context that can end costs a goroutine per statement
	if _, err := d.begin.ExecContext(ctx); err != nil {
		return err
	}
	err := run(ctx)
	if err == nil {
		_, err = d.commit.ExecContext(ctx)
	}
	if err != nil {
		_, _ = d.conn.ExecContext(ctx, "ROLLBACK") // if that fails too, the caller closes the connection
		return err
	}
	d.unsynced = true
	return d.checkFile()
}

// sync syncs the WAL to the disk, and releases SQLite's memory. SQLite syncs what its
// checkpoints move out of the WAL.
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

// errFileReplaced is the error if the database's file was removed or replaced.
var errFileReplaced = errors.New("the file was removed or replaced")

// errFileOverwritten is the error if the database's file is not a database any more.
var errFileOverwritten = errors.New("the file was overwritten with something else")

// checkFile returns an error if the file was replaced or is not a database any more. SQLite
// would continue for long with what it has in memory, and all of that would be lost.
func (d *database) checkFile() error {
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(d.path)
	if err != nil || !os.SameFile(info, named) {
		return errFileReplaced
	}
	const magic = "SQLite format 3\x00"
	head := make([]byte, len(magic))
	if n, _ := d.file.ReadAt(head, 0); string(head) != magic && (n > 0 || d.hasContent) { // a new database may be all in the WAL
		return errFileOverwritten
	}
	d.hasContent = d.hasContent || info.Size() > 0
	return nil
}

// close closes what is open. It ignores errors: all rows are committed.
func (d *database) close() {
	if d.reader != nil {
		_ = d.reader.Close()
	}
	if d.closeAddCall != nil {
		_ = d.closeAddCall()
	}
	for _, stmt := range []*sql.Stmt{d.begin, d.commit, d.addDay, d.addDimensions, d.findDimensions} {
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

// IDFile is the name of a file beside the database, for a name of it that no other one has: it is
// removed before another database takes the place of a corrupt one. The ledger does not read or write it.
const IDFile = "fleet-id"

// quarantineFiles renames the files of a corrupt database, and returns the new name. Open
// descriptors stay valid.
func quarantineFiles(path string, now time.Time) (string, error) {
	if err := os.Remove(filepath.Join(filepath.Dir(path), IDFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
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

// primaryCode returns SQLite's primary result code of an error; 0 = another error.
func primaryCode(err error) int {
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// isCorrupt returns whether an error means that the database is corrupt.
func isCorrupt(err error) bool {
	code := primaryCode(err)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB || errors.Is(err, errFileOverwritten)
}

// isBusy returns whether the error is only another connection's lock.
func isBusy(err error) bool {
	code := primaryCode(err)
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

// describeError returns why the database cannot be used, and what to do.
func describeError(path string, err error) string {
	what := strings.TrimSpace(err.Error())
	full := "the disk is full: free space in " + filepath.Dir(path)
	if errors.Is(err, unix.ENOSPC) {
		what = full
	}
	switch primaryCode(err) {
	case sqlite3.SQLITE_FULL:
		what = full
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		what = "another process has locked it: end that process (fuser " + path + " prints its pid)"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		what = "it is read-only: check its owner, its mode and how its file system is mounted"
	case sqlite3.SQLITE_CANTOPEN:
		what = "it cannot be opened: check the owner and the mode of " + filepath.Dir(path)
	default:
	}
	return fmt.Sprintf("%s: %s", path, what)
}
