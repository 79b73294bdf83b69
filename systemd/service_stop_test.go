package systemd

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// stop stops the service and checks that it exits within a time, successfully.
func (s *service) stop(within time.Duration) {
	s.t.Helper()
	began := time.Now()
	s.must("systemctl", "stop", "llmsup.service")
	s.t.Logf("stopped after %.1f s", time.Since(began).Seconds())
	if took := time.Since(began); took > within {
		s.t.Errorf("the stop took %s", took)
	}
	for property, want := range map[string]string{"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"} {
		if got := s.show("llmsup.service", property); got != want {
			s.t.Errorf("%s is %q, want %q", property, got, want)
		}
	}
	s.wantNoProcess()
}

// stopInLoad: a llama-server that never finishes loading and ignores SIGTERM.
func (s *service) stopInLoad() {
	s.write("/opt/loads", `#!/bin/sh
case $1 in --help | --version) exec /llama/llama-server "$@" ;; esac
trap '' TERM
while :; do echo loading; sleep 0.2; done
`)
	s.must("chmod", "755", "/opt/loads")
	s.dropIn("zloads", "[Service]\nEnvironment=LLMSUP_LLAMA_SERVER=/opt/loads\n")
	s.must("systemctl", "daemon-reload")
	s.must("systemctl", "restart", "llmsup.service")
	s.await("it loads", func() bool { return s.show("llmsup.service", "StatusText") == "demo loading" })
	s.stop(20 * time.Second)
	s.must("rm", "/etc/systemd/system/llmsup.service.d/zloads.conf")
	s.must("systemctl", "daemon-reload")
	s.must("systemctl", "start", "llmsup.service")
	s.awaitServed()
}

// stopInStream: a stream that ends within the grace is complete; a longer one is cut off
// with an error.
func (s *service) stopInStream() {
	short, shortEnd := s.stream("cloud", 50)
	long, longEnd := s.stream("cloud", 100_000)
	<-short
	<-long
	s.stop(s.grace() + 20*time.Second)
	if text := <-shortEnd; !strings.Contains(text, " w49") || !strings.HasSuffix(text, "data: [DONE]\n\n") {
		s.t.Errorf("the short stream ends with %q", text[max(0, len(text)-200):])
	}
	if text := <-longEnd; strings.Contains(text, "[DONE]") {
		s.t.Errorf("the long stream ended without an error: %q", text[max(0, len(text)-200):])
	}
	s.must("systemctl", "start", "llmsup.service")
	s.awaitServed()
}

// stream starts a stream. begun is closed once it has content; end gets its text.
func (s *service) stream(model string, tokens int) (begun chan struct{}, end chan string) {
	begun, end = make(chan struct{}), make(chan string, 1)
	go func() {
		body := fmt.Sprintf(`{"model":%q,"stream":true,"max_tokens":%d,"messages":[{"role":"user","content":"x"}]}`, model, tokens)
		resp, err := http.Post(s.url+"/v1/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			close(begun)
			end <- err.Error()
			return
		}
		defer resp.Body.Close()
		reader := bufio.NewReader(resp.Body)
		first, _ := reader.ReadString('\n')
		close(begun)
		rest, _ := io.ReadAll(reader)
		end <- first + string(rest)
	}()
	return begun, end
}

func (s *service) stopAll() {
	s.must("systemctl", "stop", "llmsup.socket")
	if state := s.show("llmsup.service", "ActiveState"); state != "inactive" {
		s.t.Errorf("the service is %s", state)
	}
	if _, err := s.call(newConnections, "local/demo"); err == nil {
		s.t.Error("a call is answered")
	}
	s.wantNoProcess()
	s.must("systemctl", "start", "llmsup.socket")
	s.awaitServed() // a call starts it
}
