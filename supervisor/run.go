package supervisor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// runOnce runs the process from its start to its end, and says for how long it
// was ready.
func (s *Server) runOnce(ctx context.Context) (exit *Exit, ready time.Duration) {
	kept := &tail{}
	out := &lineWriter{emit: func(line string) {
		kept.add(line)
		s.output.add(line, s.serving.Load())
	}}
	s.serving.Store(false)
	s.kills = newOOMWatch()
	s.countStart()
	p, endpoint, err := s.start(ctx, out)
	if err != nil {
		return s.notStarted(err), 0
	}
	s.gone = make(chan struct{})
	s.enter(Loading, "", func(n *Snapshot) {
		n.PID, n.Endpoint, n.Exited, n.Hung = p.id(), endpoint, s.gone, false
		n.Restarts, n.RestartsBy, n.Direct = s.starts-1, s.again, false
		n.Slots, n.CtxSize = 0, s.spec.CtxSize
	})

	ask := s.engine(endpoint)
	readyAt, verdict := s.load(ctx, p, ask)
	if !readyAt.IsZero() {
		verdict = s.watch(ctx, p, ask)
	}
	grace := s.spec.StopGrace
	hold := s.orders.held()
	switch {
	case ctx.Err() != nil:
		s.enter(Draining, "llmsup is stopping", nil)
	case verdict != nil && verdict.Class == Replaced:
		s.enter(Draining, verdict.Cause, nil)
	case hold != nil:
		s.enter(Draining, hold.Reason, nil)
		if verdict != nil {
			grace = verdictGrace
		}
	case verdict != nil:
		s.enter(Restarting, verdict.Cause, func(n *Snapshot) { n.Hung = verdict.Class == Hung })
		grace = verdictGrace
	default:
		s.enter(Restarting, "it has ended", nil)
	}
	// The state comes first: no new call goes there from now on, and those that
	// wait on it move before there is anything else to do about it.
	close(s.gone)
	back := s.turns.excuse()
	p.stop(grace, s.hurry)
	back()
	out.flush()
	removeRecord(s.spec.Dir)
	if endpoint.Network == "unix" {
		_ = os.Remove(endpoint.Address) // llama-server leaves it when it is killed
	}
	done := p.end()
	if !readyAt.IsZero() {
		ready = done.At.Sub(readyAt)
	}
	done.Tail, done.served = kept.snapshot(), s.serving.Load()
	if verdict != nil {
		done.Class, done.Cause = verdict.Class, verdict.Cause
		return &done, ready
	}
	class, because := classify(done, s.kills.grew(), s.serving.Load())
	done.Class, done.Cause = class, told(done, class, because)
	return &done, ready
}

// countStart counts a start, and by what end it came about.
func (s *Server) countStart() {
	if s.starts++; s.starts == 1 {
		return
	}
	again := maps.Clone(s.again) // snapshots have the old one
	if again == nil {
		again = map[Class]int{}
	}
	again[s.ended]++
	s.again = again
}

// verdictGrace is how long a process that llmsup ends for its silence gets to
// leave by itself. One that is wedged does not hear SIGTERM at all.
const verdictGrace = time.Second

// startProcess launches llama-server. Nothing is left running when it fails.
func (s *Server) startProcess(ctx context.Context, out *lineWriter) (child, Endpoint, error) {
	if err := os.MkdirAll(s.spec.Dir, 0o700); err != nil {
		return nil, Endpoint{}, fmt.Errorf("make the server's folder: %w", err)
	}
	can, err := readFeatures(ctx, s.spec.Binary, s.spec.Secrets)
	if err != nil {
		return nil, Endpoint{}, err
	}
	endpoint, err := s.spec.endpoint(can)
	if err != nil {
		return nil, Endpoint{}, err
	}
	mark := rand.Text()
	p, err := launch(s.spec.Binary, s.spec.args(can, endpoint), s.spec.environ(endpoint.Key, mark), out)
	if err != nil {
		return nil, Endpoint{}, err
	}
	r := record{PID: p.pid, StartTime: startTime(p.pid), BootID: bootID(), Mark: mark}
	if err := writeRecord(s.spec.Dir, r); err != nil {
		// Without it the kernel still ends the process with llmsup.
		s.log.Warn().Err(err).Msg("the record of llama-server's process could not be written")
	}
	s.log.Info().Int("pid", p.pid).Str("model", s.spec.Model).Str("listens", endpoint.Address).Msg("llama-server started")
	return p, endpoint, nil
}

// notStarted turns the error of a start into an end.
func (s *Server) notStarted(err error) *Exit {
	e := Exit{At: time.Now(), Code: -1}
	class, because := Unknown, err.Error()
	var ran *ranError
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		class = MissingBinary
	case errors.As(err, &ran): // --help failed: it can't run at all
		e.Tail = []string{ran.words}
		class, _ = classify(Exit{Code: ran.exit.Code, Tail: e.Tail, Signal: ran.exit.Signal}, false, false)
	}
	e.Class, e.Cause = class, told(e, class, because)
	return &e
}

// files says what the files of a Spec look like from outside.
func (s Spec) files() string {
	var all strings.Builder
	for _, path := range append(shards(s.Model), s.Binary) {
		info, err := os.Stat(path)
		if err != nil {
			all.WriteString("none;")
			continue
		}
		fmt.Fprint(&all, info.Size(), info.ModTime(), info.Mode(), ";")
	}
	return all.String()
}

// maxShards bounds how many parts are looked at.
const maxShards = 1000

// shardName is how the parts of a split model are called.
var shardName = regexp.MustCompile(`^(.*-)\d{5}-of-(\d{5})\.gguf$`)

// shards returns the paths of all parts of a model.
func shards(model string) []string {
	m := shardName.FindStringSubmatch(model)
	if m == nil {
		return []string{model}
	}
	n, _ := strconv.Atoi(m[2]) // five digits
	var paths []string
	for i := 1; i <= min(n, maxShards); i++ {
		paths = append(paths, fmt.Sprintf("%s%05d-of-%s.gguf", m[1], i, m[2]))
	}
	return paths
}
