package systemd

import (
	"os"
	"strconv"
	"strings"
	"time"
)

const configFile = "/etc/llmsup/llmsup.yaml"

// backsOff: with a broken configuration the pauses between the starts grow, and
// journalctl -p err finds the reason. systemd says how long its next pause is to be.
func (s *service) backsOff() {
	s.awaitServed()
	s.write(configFile, s.config("nonsense: 1\n"))
	if status, _ := s.try("systemctl", "restart", "llmsup.service"); status == 0 {
		s.t.Error("systemctl restart succeeds with a broken configuration")
	}
	var last time.Duration
	s.await("systemd has started it three times again", func() bool {
		n, err := strconv.Atoi(s.show("llmsup.service", "NRestarts"))
		if err != nil {
			s.t.Fatal(err)
		}
		text := s.show("llmsup.service", "RestartUSecNext")
		if last, err = time.ParseDuration(strings.ReplaceAll(strings.ReplaceAll(text, "min", "m"), " ", "")); err != nil {
			s.t.Fatalf("the next pause is %q", text)
		}
		return n >= 3
	})
	if last < 3*time.Second { // the first is 1 s, the third 3.9 s
		s.t.Errorf("the pauses do not grow: after three of them the next is %s", last)
	}
	const reason = `llmsup: ` + configFile + `:10: unknown key "nonsense"`
	if errs := s.must("journalctl", "-u", "llmsup.service", "-p", "err", "-o", "cat", "--no-pager"); !strings.Contains(errs, reason) || strings.Contains(errs, "<3>") || strings.Contains(errs, "llmsup accepts calls") {
		s.t.Errorf("journalctl -p err shows %s", errs)
	}
	if news := s.must("journalctl", "-u", "llmsup.service", "-p", "info..info", "-o", "cat", "--no-pager"); !strings.Contains(news, "llmsup accepts calls") || strings.Contains(news, reason) {
		s.t.Errorf("journalctl -p info..info shows %s", news)
	}
	s.write(configFile, s.config(""))
	s.must("systemctl", "restart", "llmsup.service") // does not wait for the pause
	s.awaitServed()
	if n := s.show("llmsup.service", "NRestarts"); n != "0" {
		s.t.Errorf("after a restart by hand NRestarts is %s", n)
	}
}

// homes: install.sh reports a llama-server and a model that the service cannot read, does
// not print ok, and does not restart llmsup.
func (s *service) homes() {
	s.inHomes()
	s.must("env", "CREDENTIALS_DIRECTORY=/etc/llmsup/credentials", "llmsup", "check", "--config", configFile) // root can read them
	pid := s.show("llmsup.service", "MainPID")
	status, out := s.try("/src/scripts/install.sh", "--binary", "/built/llmsup")
	s.reportsHomes(out)
	if status != 1 || !strings.Contains(out, "was not restarted: the old process still runs") {
		s.t.Errorf("exit %d: %s", status, out)
	}
	if now := s.show("llmsup.service", "MainPID"); now != pid {
		s.t.Errorf("process %s runs, before it was %s", now, pid)
	}
	s.write(configFile, s.config(""))
	s.awaitServed()
}

// image: the same, where no systemd runs, for example while an image is built.
func (s *service) image() {
	s.inHomes()
	status, out := s.try("unshare", "--mount", "env", "SYSTEMD_OFFLINE=1", "sh", "-c", `mount -t tmpfs tmpfs /run/systemd && /src/scripts/install.sh --binary /built/llmsup`)
	s.reportsHomes(out)
	if status != 0 {
		s.t.Errorf("exit %d: %s", status, out)
	}
	s.write(configFile, s.config(""))
	s.awaitServed()
}

// inHomes configures a llama-server and a model in a home that all users can read.
func (s *service) inHomes() {
	s.awaitServed()
	s.write("/home/olga/llama-server", "#!/bin/sh\nexec "+s.llama+" \"$@\"\n")
	s.must("cp", "/built/demo.gguf", "/home/olga/demo.gguf")
	s.must("chmod", "-R", "a+rX,u+x", "/home/olga")
	config := strings.NewReplacer(s.llama, "/home/olga/llama-server", "/built/demo.gguf", "/home/olga/demo.gguf").Replace(s.config(""))
	s.write(configFile, config)
}

func (s *service) reportsHomes(out string) {
	s.t.Helper()
	for _, want := range []string{
		"error    server demo: read model /home/olga/demo.gguf: permission denied",
		"error    no llama-server that can be run at /home/olga/llama-server: permission denied",
		"the service cannot read home folders",
	} {
		if !strings.Contains(out, want) {
			s.t.Errorf("install.sh does not print %q: %s", want, out)
		}
	}
	if strings.Contains(out, "install.sh: ok") {
		s.t.Errorf("install.sh prints ok: %s", out)
	}
}

// notLlmsup: install.sh rejects a program that is not llmsup before it changes anything.
func (s *service) notLlmsup() {
	files := func() string {
		return s.must("sh", "-c", `find /etc /usr/local /usr/share/bash-completion -printf '%p %m %u %s %T@ %C@\n' | sort`)
	}
	before, pid := files(), s.show("llmsup.service", "MainPID")
	status, out := s.try("/src/scripts/install.sh", "--binary", "/bin/ls")
	if status != 1 || !strings.HasPrefix(out, "install.sh: /bin/ls is not a llmsup that runs here: its --version printed \"ls ") {
		s.t.Errorf("exit %d: %s", status, out)
	}
	if files() != before {
		s.t.Error("install.sh has changed files")
	}
	if now := s.show("llmsup.service", "MainPID"); now != pid {
		s.t.Errorf("process %s runs, before it was %s", now, pid)
	}
}

// engine: if the service has no llama-server, install.sh copies the one in the cache of
// scripts/llama-server.sh.
func (s *service) engine() {
	if _, err := os.Stat(s.engineRoot); err != nil {
		notRun(s.t, "the llama-server of LLMSUP_TEST_LLAMA_SERVER is not one that scripts/llama-server.sh made")
	}
	s.must("sh", "-c", `mkdir -p /root/cache/llama-server && ln -sfn /llama "/root/cache/llama-server/$(dpkg --print-architecture)"`)
	s.write(configFile, strings.Replace(s.config(""), "llama_server: "+s.llama+"\n", "", 1))
	// The service's user can read the copy, whatever the administrator's umask is.
	out := s.must("sh", "-c", "umask 077; LLMSUP_CACHE_DIR=/root/cache exec /src/scripts/install.sh --binary /built/llmsup")
	const copied = "/usr/local/lib/llmsup/llama-server"
	if !strings.Contains(out, " to "+copied) || !strings.Contains(out, "ok       llama-server: /usr/local/bin/llama-server, ") || !strings.Contains(out, "install.sh: ok: llmsup is installed and runs") {
		s.t.Errorf("install.sh prints %s", out)
	}
	s.awaitServed()
	for _, pid := range s.engines() {
		if command := s.ask("cat", "/proc/"+pid+"/cmdline"); !strings.HasPrefix(command, copied+"/") {
			s.t.Errorf("it runs %q", command)
		}
	}
	// A damaged copy is replaced.
	s.must("sh", "-c", "echo exit 1 >"+copied+"/llama-server")
	out = s.must("env", "LLMSUP_CACHE_DIR=/root/cache", "/src/scripts/install.sh", "--binary", "/built/llmsup")
	if !strings.Contains(out, " to "+copied) || strings.Contains(out, "remove it") || !strings.Contains(out, "install.sh: ok: ") {
		s.t.Errorf("after the copy was damaged, install.sh prints %s", out)
	}
	s.write(configFile, s.config(""))
	s.must("systemctl", "restart", "llmsup.service")
	s.awaitServed()
}

// olderSystemd: install.sh removes settings from the unit that an older systemd does not
// support.
func (s *service) olderSystemd() {
	s.write("/opt/older/systemctl", `#!/bin/sh
case $1 in --version) echo 'systemd 252 (252.39-1)' ;; *) exec /usr/bin/systemctl "$@" ;; esac
`)
	s.must("chmod", "755", "/opt/older/systemctl")
	s.must("env", "PATH=/opt/older:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "/src/scripts/install.sh", "--binary", "/built/llmsup", "--no-start")
	unit := s.must("cat", "/etc/systemd/system/llmsup.service")
	if !strings.Contains(unit, "\nType=notify\n") || !strings.Contains(unit, "\nRestartSec=1s\n") || strings.Contains(unit, "\nRestartSteps=") || strings.Contains(unit, "\nRestartMaxDelaySec=") {
		s.t.Errorf("the unit is\n%s", unit)
	}
	s.must("/src/scripts/install.sh", "--binary", "/built/llmsup")
	s.must("cmp", "/src/systemd/llmsup.service", "/etc/systemd/system/llmsup.service")
	s.awaitServed()
}
