package main

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// boxPermissions returns what the fleet's README grants the NATS user of boxes: the lines of
// its example.
func boxPermissions(t *testing.T) (publish, subscribe []string) {
	t.Helper()
	raw, err := os.ReadFile("../internal/fleet/README.md")
	if err != nil {
		t.Fatal(err)
	}
	list := func(name string) []string {
		_, rest, ok := strings.Cut(string(raw), "        "+name+" = [")
		line, _, closed := strings.Cut(rest, "]")
		if !ok || !closed {
			t.Fatalf("the README has no list %s", name)
		}
		var subjects []string
		for subject := range strings.SplitSeq(line, ",") {
			subjects = append(subjects, strings.Trim(subject, "\" \n"))
		}
		return subjects
	}
	return list("publish"), list("subscribe")
}

// natsIdentity makes a key pair, and returns its public key.
func natsIdentity(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// natsToken returns the JWT of some claims.
func natsToken(t *testing.T, claims jwt.Claims, by nkeys.KeyPair) string {
	t.Helper()
	token, err := claims.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestFleetPermissions: with a user and an account that may do what the README says and no more, over TLS,
// everything that a fleet does works. Without any one of the subjects something does not, and
// the box says so.
func TestFleetPermissions(t *testing.T) {
	publish, subscribe := boxPermissions(t)
	https := httptest.NewTLSServer(nil) // it has a certificate for 127.0.0.1
	defer https.Close()
	operator, operatorKey := natsIdentity(t, nkeys.CreateOperator)
	account, accountKey := natsIdentity(t, nkeys.CreateAccount)
	_, systemKey := natsIdentity(t, nkeys.CreateAccount)
	user, userKey := natsIdentity(t, nkeys.CreateUser)
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: https.Certificate().Raw})))
	key := file("key", strings.Repeat("k", 32))
	limited := jwt.NewAccountClaims(accountKey)
	limited.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: 64 << 20, DiskStorage: 80 << 20, Streams: 3, Consumer: 0}
	credentials := filepath.Join(dir, "nats.creds")
	nats := func(publish, subscribe []string) string {
		t.Helper()
		claims := jwt.NewUserClaims(userKey)
		claims.Pub.Allow, claims.Sub.Allow = publish, subscribe
		creds, err := jwt.FormatUserConfig(natsToken(t, claims, account), seed)
		if err != nil {
			t.Fatal(err)
		}
		file("nats.creds", string(creds))
		resolver := &server.MemAccResolver{}
		for public, claims := range map[string]*jwt.AccountClaims{accountKey: limited, systemKey: jwt.NewAccountClaims(systemKey)} {
			if err := resolver.Store(public, natsToken(t, claims, operator)); err != nil {
				t.Fatal(err)
			}
		}
		s := fleettest.Start(t, func(o *server.Options) {
			o.TLSConfig = &tls.Config{Certificates: https.TLS.Certificates, MinVersion: tls.VersionTLS12}
			o.TLSTimeout = 5
			o.TrustedOperators = []*jwt.OperatorClaims{jwt.NewOperatorClaims(operatorKey)}
			o.AccountResolver, o.SystemAccount = resolver, systemKey
		})
		return strings.Replace(s.URL, "nats://", "tls://", 1)
	}
	box := func(t *testing.T, name, url string) *instance {
		t.Helper()
		config := file(name+".yaml", fmt.Sprintf("fleet: {nats: %q, ca_file: %s, credentials_file: %s, name: %s, advertise: http://%s:8000, key_file: %s}\n", url, ca, credentials, name, name, key))
		return launch(t, nil, "--gpu", "none", "--config", config)
	}
	shared := file("fleet.yaml", "budget: {daily: 5}\n")
	works := func(s control.Status) bool {
		return s.Fleet.Joined && s.Fleet.Problem == "" && s.Fleet.Others == 1 && s.Fleet.Configuration.Problem == "" && runsVersion(2)(s) &&
			len(s.Budgets) == 1 && s.Budgets[0].Fleet != nil && s.Budgets[0].Fleet.Problem == "" && s.Budgets[0].Fleet.Granted > 0
	}

	url := nats(publish, subscribe)
	one, two := box(t, "gpu1", url), box(t, "gpu2", url)
	one.awaitStatus("in the fleet with the other one", func(s control.Status) bool { return s.Fleet.Joined && s.Fleet.Others == 1 })
	for _, text := range []string{"budget: {daily: 4}\n", "budget: {daily: 5}\n"} {
		shared = file("fleet.yaml", text)
		if code, out := one.run("fleet", "push", shared); code != 0 || !strings.Contains(out, "gpu2 uses it") {
			t.Fatalf("llmsup fleet push: %d\n%s", code, out)
		}
	}
	one.awaitStatus("well", works)
	two.awaitStatus("well", works)
	if code, out := two.run("fleet", "pull", "--version", "1"); code != 0 || !strings.Contains(out, "daily: 4") {
		t.Errorf("llmsup fleet pull --version 1: %d\n%s", code, out)
	}
	if code, out := one.run("usage", "--fleet"); code != 0 || strings.Contains(out, "missing") || strings.Contains(out, "lack") {
		t.Errorf("llmsup usage --fleet: %d\n%s", code, out)
	}
	for _, in := range []*instance{one, two} {
		if log := in.logged(); strings.Contains(strings.ToLower(log), "permission") {
			t.Errorf("a box may not do all that it tries:\n%s", log)
		}
		in.stop()
	}

	for name, grants := range map[string]func(subject string) (publish, subscribe []string){
		"publish": func(subject string) (_, _ []string) {
			return slices.DeleteFunc(slices.Clone(publish), func(s string) bool { return s == subject }), subscribe
		},
		"subscribe": func(subject string) (_, _ []string) {
			return publish, slices.DeleteFunc(slices.Clone(subscribe), func(s string) bool { return s == subject })
		},
	} {
		for _, subject := range map[string][]string{"publish": publish, "subscribe": subscribe}[name] {
			t.Run("without "+name+" "+subject, func(t *testing.T) {
				url := nats(grants(subject))
				one := box(t, "gpu1", url)
				box(t, "gpu2", url)
				if !eventually(testTimeout, func() bool {
					one.run("fleet", "push", shared)
					one.run("usage", "--fleet") // it asks the other box, if it knows of it
					return strings.Contains(one.logged(), "NATS denies a permission that a box needs")
				}) {
					t.Error("the box does not miss it")
				}
			})
		}
	}
}
