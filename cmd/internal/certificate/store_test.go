package certificate

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/certificate/certtest"
)

// TestWatch: renewed files are used without a reload.
func TestWatch(t *testing.T) {
	authority, s := pairFiles(t)
	first, _, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		store := New(s, first, zerolog.Nop())
		go store.Watch(t.Context())
		synctest.Wait()
		certtest.Write(t, authority.Sign("127.0.0.1", time.Now(), time.Now().Add(time.Hour)), s.CertFile, s.KeyFile)
		time.Sleep(lookInterval)
		synctest.Wait()
		if p, problem := store.Pair(); p == first || problem != "" {
			t.Errorf("the renewed certificate is used: %t; problem %q", p != first, problem)
		}
	})
}

// TestLook: files that do not match, as those of a renewal do for a moment, are not used, and are
// logged only if the next look finds them so, too.
func TestLook(t *testing.T) {
	authority, s := pairFiles(t)
	first, _, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	store := New(s, first, zerolog.New(&log))
	logged := func(want string, times int) {
		t.Helper()
		if got := strings.Count(log.String(), want); got != times {
			t.Errorf("%q was logged %d times: %s", want, got, log.String())
		}
	}
	renewed := authority.Sign("127.0.0.1", time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	certtest.Write(t, renewed, s.CertFile, "")
	store.look()
	if p, problem := store.Pair(); p != first || !strings.Contains(problem, "the certificate was not replaced") {
		t.Errorf("the first pair %t, problem %q", p == first, problem)
	}
	logged("not replaced", 0)
	store.look()
	store.look()
	logged("not replaced", 1)
	certtest.Write(t, renewed, "", s.KeyFile)
	store.look()
	if p, problem := store.Pair(); !bytes.Equal(p.Leaf().Raw, renewed.Certificate[0]) || problem != "" {
		t.Errorf("the renewed certificate is used: %t; problem %q", p != first, problem)
	}
	logged("the certificate was renewed", 1)
	certtest.Write(t, authority.Sign("127.0.0.1", time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)), s.CertFile, s.KeyFile)
	store.look()
	store.look()
	logged("has expired", 1)
}

// TestSet: a reload replaces the pair, whatever the files' last look was.
func TestSet(t *testing.T) {
	authority, s := pairFiles(t)
	first, _, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	store := New(s, first, zerolog.Nop())
	if store.Set(s, first) {
		t.Error("the same certificate is called another one")
	}
	other := authority.Sign("127.0.0.1", time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
	certtest.Write(t, other, s.CertFile, "")
	store.look()
	if p, problem := store.Pair(); p != first || problem == "" {
		t.Errorf("problem %q", problem)
	}
	certtest.Write(t, other, s.CertFile, s.KeyFile)
	second, _, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	if !store.Set(s, second) {
		t.Error("the other certificate is called the same")
	}
	if p, problem := store.Pair(); p != second || problem != "" {
		t.Errorf("after a reload: problem %q", problem)
	}
}
