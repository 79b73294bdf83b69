package page

import (
	"bufio"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

func (d *fakeDaemon) Logs(ctx context.Context, q control.LogsRequest, begin func() error, emit func(control.LogLine) error) error {
	if len(q.Servers) > 0 && q.Servers[0] != "qwen" {
		return errors.New("there is no server " + q.Servers[0])
	}
	if err := errors.Join(begin(), emit(control.LogLine{Server: "qwen", Level: "error", Text: "<script>\n\nevent: snapshot", Lost: 3})); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (d *fakeDaemon) OwnLog(ctx context.Context, _ int, emit func(control.LogLine) error) error {
	if err := emit(control.LogLine{Text: `{"level":"warn","server":"qwen","time":"x","message":"slow"}`}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestLogs(t *testing.T) {
	own := `{"server":"","at":"0001-01-01T00:00:00Z","level":"warn","text":"slow server=qwen","lost":0}`
	engine := `{"server":"qwen","at":"0001-01-01T00:00:00Z","level":"error","text":"\u003cscript\u003e\n\nevent: snapshot","lost":3}`
	unknown := `{"server":"","at":"0001-01-01T00:00:00Z","level":"error","text":"there is no server x","lost":0}`
	for name, tc := range map[string]struct {
		query string
		want  []string
	}{
		"all":            {"?logs=1", []string{own, engine}},
		"llmsup":         {"?logs=1&server=", []string{own}},
		"a server":       {"?logs=1&server=qwen", []string{engine}},
		"both":           {"?logs=1&server=qwen&server=", []string{own, engine}},
		"unknown server": {"?logs=1&server=x", []string{unknown}},
		"none":           {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			in := bufio.NewReader(s.request("GET", "/ui/events"+tc.query, "").Body)
			got := map[string]bool{}
			for snapshot := false; !snapshot || len(got) < len(tc.want); {
				kind, id, data := event(t, in)
				if kind == "log" {
					got[data] = true
				}
				if kind == "log" && id != "" {
					t.Errorf("a line with the ID %s", id)
				}
				snapshot = snapshot || kind == "snapshot"
			}
			for _, want := range tc.want {
				if !got[want] || len(got) != len(tc.want) {
					t.Errorf("got %v, want %s", got, want)
				}
			}
		})
	}
}

// TestLogsAreForOperators: what servers print may quote a prompt.
func TestLogsAreForOperators(t *testing.T) {
	s := newSite(t, testKeys()...)
	resp := s.request("GET", "/ui/events?logs=1", "", "Cookie", s.signIn(otherKey))
	in := bufio.NewReader(resp.Body)
	for range 2 { // the snapshot, and the change that follows
		if kind, _, data := event(t, in); kind == "log" {
			t.Errorf("%s", data)
		}
		s.daemon.set(control.Server{Name: "changed"})
	}
}

func TestReadLogLine(t *testing.T) {
	for raw, want := range map[string]string{
		`{"level":"info","time":"x","message":"call","status":200,"reason":"","detail":"a b","n":1.5}`: `info|call status=200 reason="" detail="a b" n=1.5`,
		`{"level":"error","error":"say \"x\"","message":"failed"}`:                                     `error|failed error="say \"x\""`,
		`{"level":"warn","list":["a","b"],"message":""}`:                                               `warn| list=["a","b"]`,
		`not JSON`: `|not JSON`,
	} {
		level, text := readLogLine(raw)
		if got := level + "|" + text; got != want {
			t.Errorf("%s\ngot  %s\nwant %s", raw, got, want)
		}
	}
	if level, text := readLogLine(strings.Repeat("[", 10000)); level != "" || text == "" {
		t.Errorf("%s %s", level, text)
	}
}
