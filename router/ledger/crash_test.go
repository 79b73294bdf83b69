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
// and says of each that is durable so.
func recordUntilKilled() {
	l := Open(".", Options{retry: 20 * time.Millisecond, patience: 20 * time.Millisecond})
	var out sync.Mutex
	for worker := range 8 {
		go func() {
			for i := 0; ; i++ {
				l.Record(free(fmt.Sprintf("free-%d-%d-%d", os.Getpid(), worker, i)))
				request := fmt.Sprintf("paid-%d-%d-%d", os.Getpid(), worker, i)
				r := l.Pay(paid(request, 1_000_001))
				<-r.Durable()
				out.Lock()
				fmt.Println(request)
				out.Unlock()
			}
		}()
	}
	select {}
}

// kill -9 at any moment, with the database free, and locked every other time: what
// was said to be durable is there, once.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	const rounds = 30
	durable := map[string]bool{}
	spilled := 0
	for round := range rounds {
		var release func()
		if round%2 == 1 {
			release = lock(t, dir)
		}
		for _, request := range killOne(t, dir, 20+random.IntN(200)) {
			durable[request] = true
		}
		if release != nil {
			spilled += len(spills(t, dir))
			release()
		}
	}
	if len(durable) < rounds*10 || spilled == 0 {
		t.Fatalf("%d rows were durable, %d spills", len(durable), spilled)
	}
	l, _ := open(t, dir, Options{})
	synced(t, l)
	closeLedger(t, l)
	if files := spills(t, dir); len(files) > 0 {
		t.Errorf("not read back: %q", files)
	}
	found := requests(t, dir)
	for request := range durable {
		if found[request] != 1 {
			t.Errorf("%s was durable, and has %d rows", request, found[request])
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
	t.Logf("%d rounds, %d rows of paid calls were said to be durable, %d calls have a row, %d spills were read back", rounds, len(durable), len(found), spilled)
}

// killOne runs a child until it has said that n rows are durable, and kills it
// with more under way.
func killOne(t *testing.T, dir string, n int) (durable []string) {
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
		if strings.HasPrefix(lines.Text(), "paid-") {
			durable = append(durable, lines.Text())
		}
		if len(durable) == n {
			_ = child.Process.Kill()
		}
	}
	_ = child.Wait() // it was killed
	if len(durable) > n {
		durable = durable[:len(durable)-1] // its line may be cut
	}
	return durable
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
