package certificate

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/certificate/certtest"
)

// pairFiles are the files of a certificate for 127.0.0.1, and the Settings that name them.
func pairFiles(t *testing.T) (*certtest.Authority, Settings) {
	t.Helper()
	dir, authority := t.TempDir(), certtest.New(t)
	s := Settings{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	now := time.Now()
	certtest.Write(t, authority.Sign("127.0.0.1", now.Add(-time.Hour), now.Add(time.Hour)), s.CertFile, s.KeyFile)
	return authority, s
}

// TestRead: what is wrong with the files, and which key it is about. No error has a part of a key.
func TestRead(t *testing.T) {
	authority, valid := pairFiles(t)
	dir := filepath.Dir(valid.CertFile)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	block := func(kind string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("SECRET")}))
	}
	other := filepath.Join(dir, "other.pem")
	certtest.Write(t, authority.Sign("127.0.0.1", time.Now(), time.Now().Add(time.Hour)), "", other)
	old := file("old.pem", "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nU0VDUkVU\n-----END EC PRIVATE KEY-----\n")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	for name, tc := range map[string]struct{ cert, private, key, want string }{
		"valid":          {valid.CertFile, valid.KeyFile, "", ""},
		"no certificate": {dir + "/none", valid.KeyFile, "cert_file", "there is no file"},
		"no key":         {valid.CertFile, dir + "/none", "key_file", "there is no file"},
		"a folder":       {dir, valid.KeyFile, "cert_file", "is not a file of at most"},
		"no PEM":         {file("junk", "SECRET"), valid.KeyFile, "cert_file", "has no certificate in PEM format"},
		"no PEM key":     {valid.CertFile, file("junk2", "SECRET"), "key_file", "has no private key in PEM format"},
		"exchanged":      {valid.KeyFile, valid.CertFile, "cert_file", "may be exchanged"},
		"twice the cert": {valid.CertFile, valid.CertFile, "key_file", "has no private key"},
		"a passphrase":   {valid.CertFile, file("enc", block("ENCRYPTED PRIVATE KEY")), "key_file", "has a passphrase"},
		"of old openssl": {valid.CertFile, old, "key_file", "has a passphrase"},
		"another key":    {valid.CertFile, other, "key_file", "is not that of the first certificate"},
		"a damaged key":  {valid.CertFile, file("bad", block("PRIVATE KEY")), "key_file", "damaged"},
		"a damaged cert": {file("badcert", block("CERTIFICATE")), valid.KeyFile, "cert_file", "damaged"},
		"no credentials": {valid.CertFile, "${CREDENTIALS_DIRECTORY}/tls", "key_file", "LoadCredential=tls:"},
	} {
		t.Run(name, func(t *testing.T) {
			p, key, err := Settings{tc.cert, tc.private}.Read()
			if key != tc.key || (err == nil) != (tc.want == "") || (p == nil) != (err != nil) {
				t.Fatalf("%q, %v", key, err)
			}
			if err != nil && (!strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "SECRET")) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		s         Settings
		key, want string
	}{
		"none":         {},
		"both":         {s: Settings{"/a", "./b"}},
		"only a cert":  {Settings{CertFile: "/a"}, "key_file", "is missing"},
		"only a key":   {Settings{KeyFile: "/a"}, "cert_file", "is missing"},
		"a pasted key": {Settings{"/a", "MIGHAgEAMBMGByq"}, "key_file", "takes the path of a file"},
		"a variable":   {Settings{"$HOME/a", "/b"}, "cert_file", "can contain no variable"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := tc.s.Validate()
			if key != tc.key || (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%q, %v", key, err)
			}
		})
	}
}

func TestWarning(t *testing.T) {
	_, s := pairFiles(t)
	for mode, warns := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true, 0o604: true, 0o666: true} {
		if err := os.Chmod(s.KeyFile, mode); err != nil {
			t.Fatal(err)
		}
		if got := s.Warning(); (got != "") != warns {
			t.Errorf("%v: %q", mode, got)
		}
	}
}

// TestProblem: what a certificate's times mean. A sixth of its time is the last warning.
func TestProblem(t *testing.T) {
	authority, s := pairFiles(t)
	now := time.Now()
	for name, tc := range map[string]struct {
		since, left time.Duration
		want        string
	}{
		"new":            {0, 90 * 24 * time.Hour, ""},
		"to be renewed":  {61 * 24 * time.Hour, 29 * 24 * time.Hour, ""},
		"overdue":        {76 * 24 * time.Hour, 14 * 24 * time.Hour, "the certificate expires at"},
		"of a day":       {16 * time.Hour, 8 * time.Hour, ""},
		"expired":        {24 * time.Hour, -time.Second, "has expired"},
		"not valid yet":  {-time.Hour, 24 * time.Hour, "is valid only from"},
		"it never began": {-2 * time.Hour, -time.Hour, "has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			certtest.Write(t, authority.Sign("127.0.0.1", now.Add(-tc.since), now.Add(tc.left)), s.CertFile, s.KeyFile)
			p, _, err := s.Read()
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Problem(now); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
