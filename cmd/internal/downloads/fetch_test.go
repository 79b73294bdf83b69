package downloads

import (
	"bytes"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models/hub"
	"github.com/llmsup/llmsup/models/hub/hubtest"
)

// TestFromHubLogs: a wait that the hub asks for is in the log.
func TestFromHubLogs(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: []byte("GGUF and more")}}})
	var refused atomic.Bool
	h.SetIntercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if refused.Swap(true) {
			return false
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	for _, entry := range h.Environment() {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	var log bytes.Buffer
	path, err := FromHub(t.TempDir(), nil, zerolog.New(&log))(t.Context(), "hf:a/b", func(hub.Progress) {})
	want := `{"level":"warn","model":"hf:a/b","message":"the download waits: ` + h.HubHost() + ` answered 429; trying again in 1s"}` + "\n"
	if err != nil || !strings.HasSuffix(path, "a/b/m-Q8_0.gguf") || log.String() != want {
		t.Errorf("%s, %v\n%s", path, err, log.String())
	}
}
