package generic

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor"
)

// TestProbe: what each answer of the health path means.
func TestProbe(t *testing.T) {
	for name, tc := range map[string]struct {
		status  int // of the health path; 0 = nothing listens
		loading bool
		refused bool
		ready   bool
		says    string // why it is not ready
	}{
		"ready":      {http.StatusOK, false, false, true, ""},
		"loading":    {http.StatusServiceUnavailable, true, false, false, "/healthz answered 503"},
		"failing":    {http.StatusInternalServerError, true, false, false, "/healthz answered 500"},
		"wrong path": {http.StatusNotFound, false, false, false, "/healthz answered 404; set `health` to a path that answers 200"},
		"redirect":   {http.StatusFound, false, false, false, "/healthz answered 302"},
		"no process": {0, false, true, false, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
				w.WriteHeader(tc.status)
			}))
			at := supervisor.Endpoint{Network: "tcp", Address: server.Listener.Addr().String()}
			defer server.Close()
			if tc.status == 0 {
				server.Close()
			}
			p := Engine{Health: "/healthz", Slots: 3}.Probe(at, models.Description{}, time.Minute)
			loaded, called, sample := p.Loaded(t.Context()), p.TestCall(t.Context()), p.Sample(t.Context())
			if errors.Is(loaded, supervisor.ErrLoading) != tc.loading || (loaded != nil) != (tc.loading || tc.refused) {
				t.Errorf("Loaded: %v", loaded)
			}
			if (called == nil) != tc.ready || called != nil && !strings.Contains(called.Error(), tc.says) {
				t.Errorf("TestCall: %v", called)
			}
			if sample.HTTPAnswers != tc.ready || sample.EngineAnswers != tc.ready || !sample.Opaque || (sample.Failure == "") != tc.ready {
				t.Errorf("Sample: %+v", sample)
			}
			for _, request := range asked {
				if request != "GET /healthz " {
					t.Errorf("it was asked %q: a test call may be dear", request)
				}
			}
			if properties, err := p.Properties(t.Context()); properties.Slots != 3 || err != nil {
				t.Errorf("Properties: %+v, %v", properties, err)
			}
			if _, sleeps := p.(supervisor.Sleeper); sleeps {
				t.Error("it can sleep")
			}
		})
	}
}

// TestSlowHealth: a health path that does not answer in time is named, and is no answer.
func TestSlowHealth(t *testing.T) {
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-ended }))
	defer server.Close()
	defer close(ended)
	at := supervisor.Endpoint{Network: "tcp", Address: server.Listener.Addr().String()}
	err := Engine{Health: "/health"}.Probe(at, models.Description{}, 10*time.Millisecond).Loaded(t.Context())
	if !errors.Is(err, supervisor.ErrNoAnswer) || err.Error() != "/health does not answer within 10ms" {
		t.Error(err)
	}
}

// TestSleeper: sleeping and waking are POSTs, with the query of their paths.
func TestSleeper(t *testing.T) {
	asked, status := "", http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.String()
		w.WriteHeader(status)
	}))
	defer server.Close()
	at := supervisor.Endpoint{Network: "tcp", Address: server.Listener.Addr().String()}
	p := Engine{Health: "/health", Sleep: "/sleep?level=1", Wake: "/wake_up"}.Probe(at, models.Description{}, time.Minute)
	sleeper, ok := p.(supervisor.Sleeper)
	if !ok {
		t.Fatal("it cannot sleep")
	}
	if err := sleeper.Sleep(t.Context()); err != nil || asked != "POST /sleep?level=1" {
		t.Errorf("%s: %v", asked, err)
	}
	status = http.StatusNotFound
	if err := sleeper.Wake(t.Context()); err == nil || err.Error() != "POST /wake_up answered 404" || asked != "POST /wake_up" {
		t.Errorf("%s: %v", asked, err)
	}
}

// TestCommand: the port is put into the arguments, the variables and the stop command; the
// command gets no key of llmsup's.
func TestCommand(t *testing.T) {
	t.Setenv("LLMSUP_LISTEN", "x")
	t.Setenv("UPSTREAM_KEY", "secret")
	e := Engine{
		Argv: []string{"engine", "--port", "${PORT}", "--url=http://127.0.0.1:${PORT}/"}, Env: map[string]string{"HOST": "127.0.0.1:${PORT}"},
		Stop: []string{"stop", "box-${PORT}"},
	}
	c, err := e.Command(t.Context(), supervisor.Spec{Binary: "/bin/engine", Dir: t.TempDir(), Secrets: []string{"UPSTREAM_KEY"}}, models.Description{})
	if err != nil {
		t.Fatal(err)
	}
	port := strings.TrimPrefix(c.Endpoint.Address, "127.0.0.1:")
	if got, want := strings.Join(c.Args, " "), "--port "+port+" --url=http://127.0.0.1:"+port+"/"; got != want || c.Path != "/bin/engine" {
		t.Errorf("%s %s, want %s", c.Path, got, want)
	}
	if c.Endpoint.Key != "" || c.Endpoint.Network != "tcp" || strings.Join(c.Stop, " ") != "stop box-"+port || !c.Workers {
		t.Errorf("%+v", c.Endpoint)
	}
	env := strings.Join(c.Env, "\n") + "\n"
	if !strings.Contains(env, "HOST=127.0.0.1:"+port+"\n") || strings.Contains(env, "UPSTREAM_KEY=") || strings.Contains(env, "LLMSUP_") {
		t.Error("its environment is wrong")
	}
}

func TestIsContainer(t *testing.T) {
	for command, want := range map[string]bool{
		"docker run --rm x": true, "/usr/bin/podman --log-level error run x": true, "docker compose up": false, "whisper-server run": false, "": false,
	} {
		if got := IsContainer(strings.Fields(command)); got != want {
			t.Errorf("%q: %t", command, got)
		}
	}
}
