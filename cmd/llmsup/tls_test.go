package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/llmsup/llmsup/cmd/internal/certificate/certtest"
	"github.com/llmsup/llmsup/cmd/internal/control"
)

// trusting returns a client that trusts the certificates of an authority.
func trusting(a *certtest.Authority) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Pool(), MinVersion: tls.VersionTLS12}}}
}

// reload runs llmsup reload, which succeeds, and returns what it prints.
func reload(t *testing.T, in *instance) string {
	t.Helper()
	code, out := in.reload()
	if code != 0 {
		t.Fatalf("reload: %s", out)
	}
	return out
}

// TestHTTPS: llmsup speaks HTTPS with OpenAI's SDK, names its URLs so, and takes another certificate
// at a reload, if that is right.
func TestHTTPS(t *testing.T) {
	t.Parallel()
	own, dir := certtest.New(t), t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	from, until := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour).Truncate(time.Second)
	certtest.Write(t, own.Sign("127.0.0.1", from, until), certFile, keyFile)
	config := newTestConfig(t, fmt.Sprintf("tls:\n  cert_file: %s\n  key_file: %s\n", certFile, keyFile))
	in := launch(t, nil, "--gpu", "none", "--demo", "--config", config.path)
	in.http = trusting(own)
	in.awaitReady()
	if !strings.HasPrefix(in.url, "https://") {
		t.Fatalf("the log has %s", in.url)
	}

	t.Run("SDK", func(t *testing.T) {
		ask := openai.ChatCompletionNewParams{Model: "local", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("count")}, MaxTokens: openai.Int(6)}
		client := openai.NewClient(option.WithBaseURL(in.url+"/v1"), option.WithAPIKey("unused"), option.WithMaxRetries(0), option.WithHTTPClient(in.http))
		if got, err := client.Chat.Completions.New(t.Context(), ask); err != nil || got.Choices[0].Message.Content != " 1 2 3 4 5 6" {
			t.Errorf("%+v, %v", got, err)
		}
		stream := client.Chat.Completions.NewStreaming(t.Context(), ask)
		var whole openai.ChatCompletionAccumulator
		for stream.Next() {
			whole.AddChunk(stream.Current())
		}
		if err := stream.Err(); err != nil || whole.Choices[0].Message.Content != " 1 2 3 4 5 6" {
			t.Errorf("%+v, %v", whole, err)
		}
		plain := openai.NewClient(option.WithBaseURL(strings.Replace(in.url, "https://", "http://", 1)+"/v1"), option.WithAPIKey("unused"))
		_, err := plain.Chat.Completions.New(t.Context(), ask)
		if apiErr, ok := errors.AsType[*openai.Error](err); !ok || !strings.Contains(apiErr.Message, "change http:// to https:// in the base URL") {
			t.Errorf("over HTTP: %v", err)
		}
	})

	t.Run("URLs", func(t *testing.T) {
		if _, out := in.run("status"); !strings.Contains(out, "listens on "+in.url+"/v1") {
			t.Errorf("status: %s", out)
		}
		if _, out := in.run("open"); strings.TrimSpace(out) != in.url+"/ui/" {
			t.Errorf("open: %s", out)
		}
		if page := in.get("/ui/"); !strings.Contains(page, "<html") {
			t.Errorf("the page: %s", page)
		}
		if metrics := in.get("/metrics"); !strings.Contains(metrics, "\nllmsup_tls_certificate_expiry_timestamp_seconds "+strconv.FormatFloat(float64(until.Unix()), 'g', -1, 64)+"\n") {
			t.Error("the metrics lack the certificate's expiry")
		}
	})

	t.Run("check", func(t *testing.T) {
		check := func(tls string) string {
			file := newTestConfig(t, tls+"fleet: {nats: \"nats://127.0.0.1:1\", name: gpu1, advertise: \"https://gpu1.internal:8000\", key_file: /none}\n").path
			_, out := in.run("check", "--config", file, "--gpu", "none", "--state-dir", shortDir(t), "--listen", "127.0.0.1:0", "--llama-server", llamaServer(t))
			return strings.Join(strings.Fields(out), " ")
		}
		out := check(fmt.Sprintf("tls: {cert_file: %s, key_file: %s}\n", certFile, keyFile))
		for _, want := range []string{"ok tls: the certificate is for 127.0.0.1, until " + until.UTC().Format(time.DateOnly), "warning fleet: other boxes are to call this one at https://gpu1.internal:8000, and its certificate is not for that name"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in %s", want, out)
			}
		}
		if out := check(fmt.Sprintf("\ntls: {cert_file: %s, key_file: /none}\n", certFile)); !strings.Contains(out, "llmsup.yaml:2: tls.key_file: there is no file /none") {
			t.Error(out)
		}
	})

	t.Run("reload", func(t *testing.T) {
		certtest.Write(t, own.Sign("127.0.0.1", from, until.Add(time.Hour)), certFile, "") // without its key
		if code, out := in.reload(); code != 1 || !strings.Contains(out, "llmsup.yaml:3: tls.key_file: the key in "+keyFile+" is not that of the first certificate") {
			t.Errorf("reload: %d %s", code, out)
		}
		in.get("/health") // with the old one
		next := until.Add(2 * time.Hour)
		certtest.Write(t, own.Sign("127.0.0.1", from, next), certFile, keyFile)
		if out := reload(t, in); !strings.Contains(out, "tls: another certificate, valid until "+next.UTC().Format(time.RFC3339)) {
			t.Errorf("reload: %s", out)
		}
		in.http.CloseIdleConnections()
		resp, err := in.http.Get(in.url + "/health")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.TLS.PeerCertificates[0].NotAfter; !got.Equal(next) {
			t.Errorf("a new connection has the certificate until %s", got)
		}
		certtest.Write(t, own.Sign("127.0.0.1", from, time.Now().Add(-time.Second)), certFile, keyFile)
		reload(t, in)
		s := in.awaitStatus("of a certificate that has expired", func(s control.Status) bool { return s.TLS != nil && s.TLS.Problem != "" })
		if _, out := in.run("status"); !strings.Contains(s.TLS.Problem, "has expired") || !strings.Contains(strings.Join(strings.Fields(out), " "), s.TLS.Problem) {
			t.Errorf("status: %s", out)
		}
		config.write("log_level: debug\n")
		if code, out := in.reload(); code != 1 || !strings.Contains(out, "cannot change between HTTP and HTTPS") {
			t.Errorf("reload without tls: %d %s", code, out)
		}
	})
}
