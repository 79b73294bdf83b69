package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// reverseProxy is a program in front of llmsup, with the configuration of
// router/CLIENTS.md.
type reverseProxy struct {
	name    string // in the page; in lower case, its program and the language of its snippet
	command func(dir, snippet string) (config string, args []string)
}

func (p reverseProxy) program() string { return strings.ToLower(p.name) }

var reverseProxies = []reverseProxy{
	{"nginx", func(dir, snippet string) (string, []string) {
		config := "daemon off; master_process off; pid " + dir + "/pid; error_log stderr;\nevents {}\nhttp { access_log off;\n"
		for _, temp := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			config += temp + "_temp_path " + dir + "/" + temp + ";\n"
		}
		return config + snippet + "}\n", []string{"-p", dir, "-e", "stderr", "-c", dir + "/config"}
	}},
	{"Caddy", func(dir, snippet string) (string, []string) {
		certificate := "tls " + dir + "/cert.pem " + dir + "/key.pem"
		return "{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + strings.Replace(snippet, "{\n", "{\n\t"+certificate+"\n", 1),
			[]string{"run", "--adapter", "caddyfile", "--config", dir + "/config"}
	}},
}

// TestReverseProxies checks the configurations of nginx and Caddy that router/CLIENTS.md
// shows: what an application notices of llmsup, it notices behind them.
func TestReverseProxies(t *testing.T) {
	t.Parallel()
	for _, p := range reverseProxies {
		t.Run(p.program(), func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(p.program()); err != nil {
				notRun(t, "no "+p.program()+" on PATH: apt-get install "+p.program())
			}
			next, gone := make(chan step), make(chan struct{}, 1)
			upstream := newRawUpstream(t, stepwise(next, gone))
			config := newTestConfig(t, "allowed_hosts: [llm.example.com]\nupstreams: {lab: {base_url: \""+upstream.url+"/v1\"}}\nroutes: {lab: {primary: lab}}\n")
			in := launch(t, nil, "--config", config.path)
			counted := countConnections(t, strings.TrimPrefix(in.url, "http://"))
			client := p.start(t, counted.address)
			ask := func(ctx context.Context, body io.Reader) (*http.Response, error) {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://llm.example.com/v1/chat/completions", body)
				if err != nil {
					t.Fatal(err)
				}
				return client.Do(req)
			}
			streamed := `{"model":"lab","stream":true,"messages":[{"role":"user","content":"x"}]}`

			t.Run("stream", func(t *testing.T) { // each event arrives before the next one is sent
				go func() { next <- step{text: streamHead + tokenEvents(1)} }()
				resp, err := ask(t.Context(), strings.NewReader(streamed))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				lines := bufio.NewScanner(resp.Body)
				for range 3 {
					if !scanTo(lines, " word") {
						t.Fatalf("the stream ended: %v", lines.Err())
					}
					next <- step{text: tokenEvents(1)}
				}
				next <- step{streamEnd, true}
				if !scanTo(lines, "[DONE]") || scanTo(lines, "data:") || lines.Err() != nil || resp.Header.Get("X-Llmsup-Backend") != "lab" {
					t.Errorf("the end of the stream: %v, %v", lines.Err(), resp.Header)
				}
			})
			t.Run("large body", func(t *testing.T) {
				body := `{"model":"lab","messages":[{"role":"user","content":"` + strings.Repeat("x", 31<<20) + `"}]}`
				go func() { next <- step{wholeAnswer(" it arrived", ""), true} }()
				resp, err := ask(t.Context(), strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(answer), "it arrived") {
					t.Errorf("%d %.300s %v", resp.StatusCode, answer, err)
				}
			})
			t.Run("slow first token", func(t *testing.T) {
				wait := 500 * time.Millisecond
				if os.Getenv("LLMSUP_TEST_REAL_TIMES") != "" {
					wait = 65 * time.Second // nginx' default is 60 s
				}
				time.AfterFunc(wait, func() { next <- step{wholeAnswer(" at last", ""), true} })
				resp, err := ask(t.Context(), strings.NewReader(strings.Replace(streamed, "true", "false", 1)))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(answer), "at last") {
					t.Errorf("%d %s %v", resp.StatusCode, answer, err)
				}
			})
			if n := counted.accepted.Load(); n != 1 {
				t.Errorf("the proxy made %d connections for calls in a row, want 1", n)
			}
			t.Run("abandoned", func(t *testing.T) { // the upstream call ends
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() { next <- step{text: streamHead + tokenEvents(1)} }()
				resp, err := ask(ctx, strings.NewReader(streamed))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				cancel()
				select {
				case <-gone:
				case <-time.After(testTimeout):
					t.Fatalf("the upstream call still runs after %s", testTimeout)
				}
				in.awaitStatus("rid of the call", func(s control.Status) bool { return s.Inflight == 0 })
			})
		})
	}
}

// scanTo reads lines up to one that contains a text.
func scanTo(lines *bufio.Scanner, text string) bool {
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return true
		}
	}
	return false
}

// step is a part of an upstream's answer.
type step struct {
	text string
	last bool
}

// stepwise answers with the steps that it receives. If the caller goes before the last
// one, it reports that.
func stepwise(next <-chan step, gone chan<- struct{}) func(gjson.Result, func(string), <-chan struct{}) int {
	return func(_ gjson.Result, send func(string), callerGone <-chan struct{}) int {
		for {
			select {
			case s := <-next:
				send(s.text)
				if s.last {
					return 0
				}
			case <-callerGone:
				gone <- struct{}{}
				return 0
			}
		}
	}
}

// start runs the proxy in front of llmsup at address, and returns a client for which
// llm.example.com is the proxy.
func (p reverseProxy) start(t *testing.T, address string) *http.Client {
	t.Helper()
	dir := shortDir(t)
	roots := writeCertificate(t, dir)
	listen := freeAddress(t)
	_, port, _ := net.SplitHostPort(listen)
	snippet := strings.NewReplacer("127.0.0.1:8000", address, "listen 443", "listen "+listen, "llm.example.com {", "llm.example.com:"+port+" {",
		"/etc/ssl/certs/llm.example.com.pem", dir+"/cert.pem", "/etc/ssl/private/llm.example.com.key", dir+"/key.pem").Replace(snippetOf(t, p.name, p.program()))
	config, args := p.command(dir, snippet)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := exec.Command(p.program(), args...)
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("the configuration:\n%s\nthe output:\n%s", config, &out)
		}
	})
	if !eventually(testTimeout, func() bool {
		conn, err := net.Dial("tcp", listen)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}) {
		t.Fatalf("%s does not listen after %s", p.program(), testTimeout)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, listen)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// freeAddress returns an address of this machine on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// snippetOf returns the block of code in a language under a heading of router/CLIENTS.md.
func snippetOf(t *testing.T, heading, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../router/CLIENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "# "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, block, found := strings.Cut(section, "```"+language+"\n")
	if !found {
		t.Fatalf("router/CLIENTS.md has no %s under %s", language, heading)
	}
	block, _, _ = strings.Cut(block, "```\n")
	return block
}

// writeCertificate writes the certificate of httptest, which is for example.com, to
// cert.pem and key.pem.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	certificate := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return pool
}

// connectionCounter forwards connections to llmsup and counts them.
type connectionCounter struct {
	net.Listener
	address  string
	accepted atomic.Int64
}

func countConnections(t *testing.T, to string) *connectionCounter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &connectionCounter{Listener: listener, address: listener.Addr().String()}
	go forward(c, "tcp", to)
	t.Cleanup(func() { _ = listener.Close() })
	return c
}

func (c *connectionCounter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}
