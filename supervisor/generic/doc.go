// Package generic runs any program that serves an API over HTTP: the implementation of
// supervisor.Engine for the servers with a `command` in llmsup.yaml.
//
// Of such a program llmsup knows its command line, the port that it gives it, a path that
// answers 200 once it is ready, and what Linux shows of its processes. So it makes no call
// of its own, and counts no slots and no tokens:
//   - engine.go: the command, its environment, and what the router may rely on;
//   - program.go: which file a command runs, and whether it can be run;
//   - probe.go: the health path;
//   - classify.go: what its exit status and its last lines say about why it ended;
//   - logline.go: which of its lines llmsup's log may have.
//
// cmd/internal/daemon makes an Engine of each such server's configuration; cmd/llmsup
// calls FindProgram and IsContainer before a start and for `llmsup check`. The package
// starts nothing: package supervisor does.
package generic
