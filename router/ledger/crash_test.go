package ledger

import (
	"bufio"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// recordUntilKilled is the child of TestKilled. It records rows as fast as it can,
// and prints each that is in the journal.
func recordUntilKilled() {
	l := Open(".", Options{retry: 20 * time.Millisecond})
	var out sync.Mutex
	for worker := range 8 {
		go func() {
			for i := 0; ; i++ {
				row := free(fmt.Sprintf("row-free-%d-%d-%d", os.Getpid(), worker, i))
				if i%2 == 0 {
					row = paid(fmt.Sprintf("row-paid-%d-%d-%d", os.Getpid(), worker, i), 1_000_001)
				}
				<-l.Record(row).written
				out.Lock()
				fmt.Println(row.Request)
				out.Unlock()
			}
		}()
	}
	select {}
}

// kill -9 at any moment, with the database free, and locked every other time: what was
// in the journal is in the database, once.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	const rounds = 30
	written := map[string]bool{}
	left := 0
	for round := range rounds {
		var release func()
		if round%2 == 1 {
			release = lock(t, dir)
		}
		for _, request := range killOne(t, dir, 20+random.IntN(200)) {
			written[request] = true
		}
		if release != nil {
			left += len(journals(t, dir))
			release()
		}
	}
	if len(written) < rounds*10 || left == 0 {
		t.Fatalf("%d rows were written, %d journals", len(written), left)
	}
	l, _ := open(t, dir, Options{})
	synced(t, l)
	closeLedger(t, l)
	if files := journals(t, dir); len(files) > 0 {
		t.Errorf("not read back: %q", files)
	}
	found := requests(t, dir)
	for request := range written {
		if found[request] != 1 {
			t.Errorf("%s was in the journal, and has %d rows", request, found[request])
		}
	}
	twice := 0
	for _, n := range found {
		if n > 1 {
			twice++
		}
	}
	if twice > 0 {
		t.Errorf("%d calls have more than one row", twice)
	}
	t.Logf("%d rounds, %d rows were written, %d calls have a row, %d journals were imported", rounds, len(written), len(found), left)
}

// killOne runs a child until it has printed n rows, and kills it with more under way.
func killOne(t *testing.T, dir string, n int) (written []string) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env, child.Dir = append(os.Environ(), childVariable+"=1"), dir
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "row-") {
			written = append(written, lines.Text())
		}
		if len(written) == n {
			_ = child.Process.Kill()
		}
	}
	_ = child.Wait() // it was killed
	if len(written) > n {
		written = written[:len(written)-1] // its line may be cut
	}
	return written
}

// lock has another connection hold the database's lock.
func lock(t *testing.T, dir string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(dir+"/"+databaseName, "busy_timeout(5000)"))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		_, err := db.Exec("ROLLBACK")
		if closing := db.Close(); err != nil || closing != nil {
			t.Fatal(err, closing)
		}
	}
}
