package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor/process"
)

// TestDescription: a snapshot has what the file shows of the model, whether the server runs or
// is drained, and once it is ready what the program has shown.
func TestDescription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inFile := models.Description{CtxSize: 8192, Abilities: []models.Ability{models.Chat, models.Completion}}
		loaded := models.Description{CtxSize: 2048, Abilities: []models.Ability{models.Chat, models.Completion, models.Tools}}
		s := newServer(t, Spec{})
		s.engine = fakeEngine{
			described: inFile, properties: Properties{Description: loaded}, sample: Sample{HTTPAnswers: true, EngineAnswers: true},
		}
		want := func(when string, d models.Description) {
			t.Helper()
			synctest.Wait()
			if got := s.Snapshot().description(); !reflect.DeepEqual(got, d) {
				t.Errorf("%s: %+v, want %+v", when, got, d)
			}
		}
		s.Drain(DrainOptions{})
		defer runServer(t, s)()
		want("drained", inFile)
		s.Resume()
		synctest.Wait()
		time.Sleep(loadedInterval)
		want("ready", loaded)
		s.Drain(DrainOptions{})
		time.Sleep(callsPollInterval * 3)
		want("drained again", inFile)
	})
}

// TestUndescribed: a file that cannot be read, or is not read within some seconds, prevents no
// start.
func TestUndescribed(t *testing.T) {
	for name, describe := range map[string]func() (models.Description, error){
		"unreadable": func() (models.Description, error) { return models.Description{}, errors.New("no such file") },
		"a disk that does not answer": func() (models.Description, error) {
			time.Sleep(2 * describeTimeout)
			return models.Description{CtxSize: 1}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTimeWith(t, func(s *Server) { s.engine = describedBy{s.engine, describe} }, func(s *Server) {
				time.Sleep(3 * describeTimeout) // until the disk has answered
				if now := wantState(t, s, Ready, ""); now.Description != nil {
					t.Errorf("described as %+v", now.Description)
				}
			})
		})
	}
}

// describedBy is an engine that describes models as a test wants.
type describedBy struct {
	Engine
	describe func() (models.Description, error)
}

func (e describedBy) Describe(Spec) (models.Description, error) { return e.describe() }

// TestServesNothing: a program that says that it supports no call is well. It stays, and the
// reason says what it answers.
func TestServesNothing(t *testing.T) {
	var calls, starts atomic.Int64
	prepare := func(s *Server) {
		s.engine = fakeEngine{complete: func() error {
			calls.Add(1)
			return fmt.Errorf("%w: start it with another flag", ErrServesNothing)
		}}
		s.start = func(context.Context, io.Writer) (child, Command, error) {
			starts.Add(1)
			return newFakeProcess(process.Exit{}), Command{Endpoint: Endpoint{Network: "fake"}}, nil
		}
	}
	inVirtualTimeWith(t, prepare, func(s *Server) {
		time.Sleep(time.Hour)
		now := wantState(t, s, Loading, "it has loaded its model, but answers no test call: it supports no call: start it with another flag")
		if n := starts.Load(); n != 1 || now.LastExit != nil {
			t.Errorf("%d starts, last exit %+v; want the process to stay", n, now.LastExit)
		}
		if n := calls.Load(); n > 2+int64(time.Hour/refusedRetry) {
			t.Errorf("%d test calls in an hour", n)
		}
		s.Restart()
		time.Sleep(time.Second)
		if n := starts.Load(); n != 2 {
			t.Errorf("%d starts after a restart", n)
		}
	})
}

// TestTestCallFails: the reason is the answer to the last test call, and goes when one is
// answered.
func TestTestCallFails(t *testing.T) {
	answers := []error{errors.New("/completion answered 500: Compute error."), errors.New("/completion answered 500: other"), nil}
	prepare := func(s *Server) {
		n := -1
		staysUp(s, func() error { n++; return answers[min(n, len(answers)-1)] })
	}
	inVirtualTimeWith(t, prepare, func(s *Server) {
		for _, err := range answers[:2] {
			time.Sleep(testCallRetry * 7 / 10)
			if now := s.Snapshot(); now.State != Loading || !strings.HasSuffix(now.Reason, ": "+err.Error()) {
				t.Errorf("it is %s: %q, want loading: %v", now.State, now.Reason, err)
			}
			time.Sleep(testCallRetry * 3 / 10)
		}
		time.Sleep(testCallRetry)
		wantState(t, s, Ready, "")
	})
}

// TestNoAnswer: a loading engine that does not answer in time has that as its reason, until it
// answers.
func TestNoAnswer(t *testing.T) {
	var answer atomic.Pointer[error]
	answer.Store(&ErrNoAnswer)
	prepare := func(s *Server) {
		s.engine = fakeEngine{loaded: func() error { return *answer.Load() }}
	}
	inVirtualTimeWith(t, prepare, func(s *Server) {
		time.Sleep(time.Second)
		if now := s.Snapshot(); now.State != Loading || now.Reason != ErrNoAnswer.Error() {
			t.Errorf("it is %s: %q", now.State, now.Reason)
		}
		answer.Store(&ErrLoading)
		time.Sleep(time.Second)
		wantState(t, s, Loading, "")
		answer.Store(new(error))
		time.Sleep(2 * time.Second)
		wantState(t, s, Ready, "")
	})
}

// inVirtualTimeWith runs a prepared server of newServer's in virtual time.
func inVirtualTimeWith(t *testing.T, prepare, body func(s *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Spec{})
		s.log = zerolog.Nop()
		prepare(s)
		defer runServer(t, s)()
		body(s)
	})
}
