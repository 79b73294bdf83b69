package systemd

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// fromNothing does what README.md says, in a system that has neither llmsup nor
// llama-server: the package, a client key, a model, a llama-server from the distribution's
// packages, and a call. It logs how long that takes, with all downloads.
func (p *packaged) fromNothing() {
	if os.Getenv("LLMSUP_TEST_LONG") == "" {
		p.t.Skip("it downloads llama-server, which takes a minute: set LLMSUP_TEST_LONG")
	}
	p.write("/etc/apt/apt.conf.d/90host", hostNetwork(p.t))
	_, port, _ := strings.Cut(strings.TrimPrefix(p.url, "http://"), ":")
	p.listenOn(port) // the purge has removed it
	p.must("sh", "-c", "mkdir -p /srv/models && cp /built/demo.gguf /srv/models/ && ! command -v llama-server")
	began := time.Now()
	step := func(name string) { p.t.Logf("after %.1f s: %s", time.Since(began).Seconds(), name) }

	p.must("apt-get", "update", "--quiet")
	p.mustApt("1.1.0")
	step("installed")
	p.token = p.ask("llmsup", "key", "new", "crawler", "--add", "--config", configFile)
	p.write(configFile, "servers:\n  demo: {model: /srv/models/demo.gguf}\n"+p.must("cat", configFile)+"\n")
	p.must("/usr/lib/llmsup/scripts/service-llama-server.sh")
	step("a llama-server is there")
	p.must("/usr/lib/llmsup/scripts/service-check.sh")
	p.must("systemctl", "enable", "--now", "llmsup.socket", "llmsup")
	step("started")
	p.awaitServed()
	step("answered")
}

// hostNetwork returns the host's settings of apt for its downloads, such as a proxy.
func hostNetwork(t *testing.T) (settings string) {
	t.Helper()
	out, err := exec.Command("apt-config", "dump", "--format", `%f "%v";%n`).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Acquire::") {
			settings += line
		}
	}
	return settings
}
