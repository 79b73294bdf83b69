package systemd

import (
	"regexp"
	"strings"
	"time"
)

// wantDrained checks that the fallback answers and that no llama-server runs.
func (s *service) wantDrained(after string) {
	s.t.Helper()
	// READY may be sent shortly before the server has read the drain file.
	s.await("after "+after+" the status line shows the drain", func() bool {
		return strings.HasPrefix(s.show("llmsup.service", "StatusText"), "demo drained")
	})
	if backend, err := s.call(newConnections, "local/demo"); err != nil || backend != "openrouter" {
		s.t.Errorf("after %s a call is answered by %q, %v", after, backend, err)
	}
	if pids := s.engines(); len(pids) > 0 {
		s.t.Errorf("after %s llama-servers %v run", after, pids)
	}
}

// drained: a drain survives a restart and a crash of llmsup.
func (s *service) drained() {
	s.must("llmsup", "drain", "--yes")
	s.wantDrained("the drain")
	s.must("systemctl", "restart", "llmsup.service")
	s.wantDrained("a restart")
	before := s.show("llmsup.service", "NRestarts")
	s.must("sh", "-c", "kill -KILL "+s.show("llmsup.service", "MainPID"))
	s.await("systemd has started it again", func() bool {
		return s.show("llmsup.service", "NRestarts") != before && s.show("llmsup.service", "ActiveState") == "active"
	})
	s.wantDrained("a crash")
	s.must("llmsup", "resume")
	if backend, err := s.call(newConnections, "local/demo"); err != nil || backend != "demo" {
		s.t.Errorf("after the resume a call is answered by %q, %v", backend, err)
	}
}

// driver: apt drains before it unpacks an NVIDIA driver, and not for other packages.
func (s *service) driver() {
	s.must("cp", "/src/systemd/apt-drain.conf", "/etc/apt/apt.conf.d/50llmsup")
	for _, name := range []string{"not-nvidia", "nvidia-driver-test"} {
		s.write("/tmp/"+name+"/DEBIAN/control", "Package: "+name+"\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: nothing\n")
		s.must("dpkg-deb", "--build", "/tmp/"+name, "/tmp/"+name+"_1_all.deb")
		s.must("apt-get", "install", "--yes", "/tmp/"+name+"_1_all.deb")
		if drained := len(s.engines()) == 0; drained != (name == "nvidia-driver-test") {
			s.t.Errorf("after the installation of %s: drained is %v", name, drained)
		}
	}
	s.must("rm", "/etc/apt/apt.conf.d/50llmsup")
	s.wantDrained("a driver's upgrade")
	s.must("systemctl", "restart", "llmsup.service")
	s.must("llmsup", "resume")
	s.awaitServed()
}

// stopInDrain: a drain waits for a call that does not end because llama-server is stopped.
// The stop of llmsup waits for neither.
func (s *service) stopInDrain() {
	begun, end := s.stream("local/demo", 8000)
	<-begun
	s.must("sh", "-c", "kill -STOP "+strings.Join(s.engines(), " "))
	drain := s.command("llmsup", "drain", "--yes")
	if err := drain.Start(); err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = drain.Wait() }()
	s.await("it drains", func() bool {
		return strings.HasPrefix(s.show("llmsup.service", "StatusText"), "demo draining")
	})
	s.stop(s.grace() + 25*time.Second)
	if text := <-end; strings.Contains(text, "[DONE]") {
		s.t.Errorf("the stream ended without an error: %q", text[max(0, len(text)-200):])
	}
	s.must("systemctl", "start", "llmsup.service")
	s.wantDrained("a stop")
	s.must("llmsup", "resume")
	s.awaitServed()
}

// rebooted: a drain survives a reboot, also one during the drain, and a power cut. The end
// of --for stays the same.
func (s *service) rebooted() {
	s.write("/etc/llmsup/llmsup.yaml", s.config("shutdown_grace: 2s\n"))
	s.must("systemctl", "reload", "llmsup.service")
	begun, end := s.stream("local/demo", 8000)
	<-begun
	s.must("sh", "-c", "kill -STOP "+strings.Join(s.engines(), " ")) // so that the drain does not end
	drain := s.command("llmsup", "drain", "--yes")
	if err := drain.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.await("it drains", func() bool {
		return strings.HasPrefix(s.show("llmsup.service", "StatusText"), "demo draining")
	})
	s.reboot()
	_ = drain.Wait() // it was killed with the container
	if text := <-end; strings.Contains(text, "[DONE]") {
		s.t.Errorf("the stream ended without an error: %q", text[max(0, len(text)-200):])
	}
	s.awaitActive()
	s.wantDrained("a reboot")
	if out := s.must("llmsup", "status", "--json"); !strings.Contains(out, `"until":null,"keep_server":false}`) {
		s.t.Errorf("llmsup status: %s", out)
	}
	s.must("llmsup", "resume")
	s.awaitServed()

	s.must("llmsup", "drain", "--yes", "--for", "2h")
	before := s.until()
	s.cutPower()
	s.boot()
	s.awaitActive()
	s.wantDrained("a power cut")
	if now := s.until(); now != before || now == "" {
		s.t.Errorf("it ends at %q, before at %q", now, before)
	}
	s.must("llmsup", "resume")
	s.awaitServed()

	s.must("llmsup", "drain", "--yes", "--for", "8s")
	s.reboot()
	s.awaitActive()
	s.awaitServed()                                   // without a command
	s.must("llmsup", "drain", "--yes", "--for", "4s") // longer than a busy machine takes to stop the model
	s.reboot()
	s.awaitActive()
	s.awaitServed() // the time of the drain is over
	s.write("/etc/llmsup/llmsup.yaml", s.config(""))
	s.must("systemctl", "reload", "llmsup.service")
}

// awaitActive waits until the service is active.
func (s *service) awaitActive() {
	s.t.Helper()
	s.await("the service is active", func() bool { return s.show("llmsup.service", "ActiveState") == "active" })
}

// until returns when the drain ends; "" = never.
func (s *service) until() string {
	s.t.Helper()
	m := regexp.MustCompile(`"drain":\{"since":"[^"]+","until":"([^"]+)"`).FindStringSubmatch(s.must("llmsup", "status", "--json"))
	if m == nil {
		return ""
	}
	return m[1]
}
