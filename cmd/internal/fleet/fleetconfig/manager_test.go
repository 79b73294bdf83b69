package fleetconfig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

func TestPush(t *testing.T) {
	nats := fleettest.Start(t)
	one, two := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, nats.URL), newBox(t, t.TempDir(), "").join(t, "two", fleetKey, nats.URL)
	if pulled, err := one.Pull(t.Context(), 0); err != nil || pulled.Fleet != nil || pulled.Running != nil || pulled.Box != "one" {
		t.Errorf("before the first push: %+v, %v", pulled, err)
	}
	if pushed := one.push(t, routeTo("a")+"listen: 127.0.0.1:1\n"); pushed.Version != 1 || pushed.Previous != nil || pushed.Refused != "" {
		t.Errorf("the first push: %+v", pushed)
	}
	awaitVersion(t, 1, one, two)
	if one.routed() != "a" || two.routed() != "a" {
		t.Errorf("the routes are to %q and %q", one.routed(), two.routed())
	}
	if s := two.Status(); s.PushedBy != "ann@one" || strings.Join(s.Sections, " ") != "routes" || s.Problem != "" {
		t.Errorf("%+v", s)
	}
	if pushed := two.push(t, routeTo("b")); pushed.Version != 2 || pushed.Previous == nil || pushed.Previous.Version != 1 {
		t.Errorf("the second push: %+v", pushed)
	}
	awaitVersion(t, 2, one, two)
	if pushed := one.push(t, routeTo("b")); !pushed.Unchanged || pushed.Version != 2 {
		t.Errorf("the same again: %+v", pushed)
	}
	if pulled, err := one.Pull(t.Context(), 1); err != nil || pulled.Fleet == nil || !strings.Contains(pulled.Fleet.Text, "primary_model: a") {
		t.Errorf("version 1: %+v, %v", pulled, err)
	}
	_, err := one.Pull(t.Context(), 3)
	mustContain(t, err, "the fleet has no version 3")

	if pushed, err := one.Push(t.Context(), control.PushRequest{Remove: true}, "ann"); err != nil || pushed.Version != 3 {
		t.Errorf("the removal: %+v, %v", pushed, err)
	}
	awaitVersion(t, 3, one, two)
	if one.routed() != "" || two.routed() != "" {
		t.Errorf("after the removal the routes are to %q and %q", one.routed(), two.routed())
	}
}

// lateBucket answers the first reads as before the first document was stored.
type lateBucket struct {
	jetstream.KeyValue
	early int
}

func (b *lateBucket) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	if b.early--; b.early >= 0 {
		return nil, jetstream.ErrKeyNotFound
	}
	return b.KeyValue.Get(ctx, key)
}

// TestFirstPush: a box that hears of the first document before the bucket has it reads on.
func TestFirstPush(t *testing.T) {
	nats := fleettest.Start(t)
	one := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, nats.URL)
	one.push(t, routeTo("a"))
	b, err := one.connection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	two := newBox(t, t.TempDir(), "")
	two.connect(b, b.c.Fleet())
	if err := two.reread(t.Context(), &bucket{&lateBucket{b.kv, 2}, b.c, b.key}); err != nil || two.Status().Version != 1 {
		t.Errorf("the box runs version %d, %v", two.Status().Version, err)
	}
}

// TestPushWhileJoining: a push, and a pull, at a box that has just started wait until it is connected.
func TestPushWhileJoining(t *testing.T) {
	nats := fleettest.Start(t)
	b := newBox(t, t.TempDir(), "").start(t, "one", fleetKey, nats.URL)
	if pushed := b.push(t, routeTo("a")); pushed.Version != 1 {
		t.Errorf("%+v", pushed)
	}
	other := newBox(t, t.TempDir(), "").start(t, "two", fleetKey, nats.URL)
	if pulled, err := other.Pull(t.Context(), 0); err != nil || pulled.Fleet == nil || pulled.Problem != "" {
		t.Errorf("%+v, %v", pulled, err)
	}
}

// TestTwoFleets: boxes with another key in the same NATS account, perhaps by mistake, have a
// configuration of their own, and neither fleet writes over that of the other one.
func TestTwoFleets(t *testing.T) {
	nats := fleettest.Start(t)
	one, two := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, nats.URL), newBox(t, t.TempDir(), "").join(t, "two", otherKey, nats.URL)
	const pushes = history + 4 // more than one fleet's versions in the bucket
	one.push(t, routeTo("first"))
	for i := range pushes {
		two.push(t, routeTo(fmt.Sprint("two", i)))
	}
	one.push(t, routeTo("last"))
	if one.routed() != "last" || two.routed() != fmt.Sprint("two", pushes-1) || one.Status().Version != 2 {
		t.Errorf("the boxes route to %q and %q, and one has version %d", one.routed(), two.routed(), one.Status().Version)
	}
	if pulled, err := one.Pull(t.Context(), 1); err != nil || !strings.Contains(pulled.Fleet.Text, "first") {
		t.Errorf("version 1: %+v, %v", pulled, err)
	}
	status, err := outsider(t, nats.URL).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info := status.(*jetstream.KeyValueBucketStatus).StreamInfo(); info.State.LastSeq != pushes+2 {
		t.Errorf("the bucket was written %d times", info.State.LastSeq)
	}
	for _, b := range []*box{one, two} {
		if s := b.Status(); s.Problem != "" {
			t.Error(s.Problem)
		}
	}
}

// countingBucket counts how many revisions are read.
type countingBucket struct {
	jetstream.KeyValue
	reads int
}

func (b *countingBucket) GetRevision(ctx context.Context, key string, revision uint64) (jetstream.KeyValueEntry, error) {
	b.reads++
	return b.KeyValue.GetRevision(ctx, key, revision)
}

// TestVersionNotKept: the search for a version that the bucket does not keep ends when all that it
// keeps are read.
func TestVersionNotKept(t *testing.T) {
	one := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, fleettest.Start(t).URL)
	for i := range history + 4 {
		one.push(t, routeTo(fmt.Sprint(i)))
	}
	counting := &countingBucket{KeyValue: one.bucket.kv}
	d, err := (&bucket{counting, one.bucket.c, one.bucket.key}).earlier(t.Context(), 1)
	if d != nil || err != nil || counting.reads != history {
		t.Errorf("%+v, %v, after %d reads", d, err, counting.reads)
	}
}

// TestRefusedPush: what this box could not run itself is not pushed.
func TestRefusedPush(t *testing.T) {
	nats := fleettest.Start(t)
	b := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, nats.URL)
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":             {"", "fleet.yaml has none of the sections keys, routes, budget"},
		"other sections":      {"listen: 127.0.0.1:1", "fleet.yaml has none of the sections"},
		"an unknown key":      {"routes:\n  m: {primry: x}", `fleet.yaml:2: unknown key "primry"`},
		"an invalid fallback": {"routes:\n  m:\n    primary: openrouter\n    fallback: openrouter", `fleet.yaml:4: routes.m.fallback: "openrouter" is the primary itself`},
		"a limit for no key":  {"budget:\n  per_key: {x: {daily: 1}}", "fleet.yaml:2: budget.per_key: there is no key"},
		"a secret":            {"routes:\n  m:\n    primary: openrouter # with sk-or-v1-0123456789abcdef0123", "fleet.yaml:3: this may be a secret"},
	} {
		_, err := b.Push(t.Context(), control.PushRequest{File: "fleet.yaml", Text: tc.text}, "ann")
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "0123456789abcdef") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if pulled, err := b.Pull(t.Context(), 0); err != nil || pulled.Fleet != nil {
		t.Errorf("%+v, %v", pulled, err)
	}
}

// TestRefusedByBox: a box whose own file does not fit keeps what it has, says so, and takes the
// version when a reload has corrected the file.
func TestRefusedByBox(t *testing.T) {
	nats := fleettest.Start(t)
	const broken = "budget: {per_key: {app: {daily: 1}}}\n"
	keys := func(name string) string {
		return "keys: {" + name + ": {sha256: " + strings.Repeat("0", 64) + "}}\n"
	}
	one, two := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, nats.URL), newBox(t, t.TempDir(), "").join(t, "two", fleetKey, nats.URL)
	one.push(t, keys("app"))
	awaitVersion(t, 1, one, two)
	if err := two.reload(broken); err != nil {
		t.Fatal(err)
	}
	one.push(t, keys("other"))
	await(t, "box two refuses version 2", func() bool { return two.Status().Refused == 2 })
	s := two.Status()
	if s.Version != 1 || !strings.Contains(s.Problem, `refuses version 2 of the fleet's configuration, and keeps version 1: llmsup.yaml:1: budget.per_key: there is no key "app"`) {
		t.Errorf("%+v", s)
	}
	await(t, "box one sees that", func() bool {
		v := one.member.View()
		return len(v.Boxes) == 1 && v.Boxes[0].ConfigVersion == 1 && v.Boxes[0].ConfigRefused == 2 && strings.Contains(v.Boxes[0].ConfigProblem, "refuses version 2")
	})
	if err := two.reload(broken + "log_level: warn\n"); err != nil { // the old version still fits
		t.Fatal(err)
	}
	if s := two.Status(); s.Version != 1 || s.Refused != 2 {
		t.Errorf("%+v", s)
	}
	if err := two.reload("# one line more\n" + broken); err != nil {
		t.Fatal(err)
	}
	if s := two.Status(); s.Refused != 2 || !strings.Contains(s.Problem, "llmsup.yaml:2: budget.per_key") {
		t.Errorf("the reason is not that of the last reload: %+v", s)
	}
	if err := two.reload("log_level: warn\n"); err != nil {
		t.Fatal(err)
	}
	if s := two.Status(); s.Version != 2 || s.Refused != 0 || s.Problem != "" {
		t.Errorf("after the correction: %+v", s)
	}
	if saved, err := Saved(two.dir); err != nil || saved.Version != 2 {
		t.Errorf("saved is %+v, %v", saved, err)
	}
}

// TestRefusedForAMoment: a box that could not apply a version since a file did not fit for a moment
// applies it soon after, and logs each reason once.
func TestRefusedForAMoment(t *testing.T) {
	nats := fleettest.Start(t)
	two := newBox(t, t.TempDir(), "")
	var logged bytes.Buffer
	two.poll, two.o.Log = 10*time.Millisecond, zerolog.New(&logged)
	one, two := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, nats.URL), two.join(t, "two", fleetKey, nats.URL)
	two.fail(errors.New("the key is not that of the certificate"))
	one.push(t, routeTo("a"))
	two.awaitFailures(t)
	if s := two.Status(); s.Refused != 1 || !strings.Contains(s.Problem, "the key is not") {
		t.Errorf("%+v", s)
	}
	two.fail(errors.New("there is no file"))
	two.awaitFailures(t)
	two.fail(nil)
	awaitVersion(t, 1, two)
	if s := two.Status(); s.Refused != 0 || s.Problem != "" {
		t.Errorf("%+v", s)
	}
	two.stop()
	if n := strings.Count(logged.String(), "refuses version 1"); n != 2 {
		t.Errorf("the refusal was logged %d times:\n%s", n, logged.String())
	}
}

// TestRefusedOfOtherFleet: a version that a box has refused in another fleet is not applied in this one.
func TestRefusedOfOtherFleet(t *testing.T) {
	b := newBox(t, t.TempDir(), "")
	b.connect(nil, "another")
	b.fail(errors.New("there is no file"))
	if err := b.apply(&control.FleetDocument{Version: 9, Text: routeTo("a")}); err == nil || b.Status().Refused != 9 {
		t.Fatalf("%v, %+v", err, b.Status())
	}
	b.connect(nil, "this")
	b.fail(nil)
	b.retry()
	if s := b.Status(); s.Version != 0 || s.Refused != 0 || s.Problem != "" {
		t.Errorf("%+v", s)
	}
}

// TestPushesAtOnce: of pushes at the same moment all but one are refused, in one sentence.
func TestPushesAtOnce(t *testing.T) {
	nats := fleettest.Start(t)
	var boxes []*box
	for i := range 3 {
		boxes = append(boxes, newBox(t, t.TempDir(), "").join(t, fmt.Sprint("box", i), fleetKey, nats.URL))
	}
	var done, refused atomic.Uint64
	for round := range 10 {
		var pushing sync.WaitGroup
		for i, b := range boxes {
			pushing.Go(func() {
				_, err := b.Push(t.Context(), control.PushRequest{File: "f", Text: routeTo(fmt.Sprintf("r%db%d", round, i))}, "ann")
				switch {
				case err == nil:
					done.Add(1)
				case strings.Contains(err.Error(), "another configuration was pushed at the same moment, as version ") && strings.Contains(err.Error(), " by ann@box"):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		pushing.Wait()
	}
	t.Logf("%d pushed, %d refused", done.Load(), refused.Load())
	if refused.Load() == 0 {
		t.Error("no two pushes were at the same moment")
	}
	awaitVersion(t, done.Load(), boxes...) // each has a version of its own
	for _, b := range boxes[1:] {
		if b.routed() != boxes[0].routed() {
			t.Errorf("the boxes route to %q and %q", b.routed(), boxes[0].routed())
		}
	}
}

// TestReadBeforePush: a document that was read from the bucket before a later one was pushed on this
// box does not replace it. The bucket would not be read again.
func TestReadBeforePush(t *testing.T) {
	one := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, fleettest.Start(t).URL)
	one.push(t, routeTo("a"))
	read, _, err := one.bucket.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one.push(t, routeTo("b"))
	if err := one.apply(read); err != nil {
		t.Error(err)
	}
	if s := one.Status(); s.Version != 2 || one.routed() != "b" {
		t.Errorf("%+v, routes to %q", s, one.routed())
	}
}

// TestOlderVersion: an old document that is sent again, a text of an outsider, and a bucket that
// has lost everything change nothing, and the bucket gets the newest document again.
func TestOlderVersion(t *testing.T) {
	nats := fleettest.Start(t)
	one, two := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, nats.URL), newBox(t, t.TempDir(), "").join(t, "two", fleetKey, nats.URL)
	one.push(t, routeTo("a"))
	awaitVersion(t, 1, one, two)
	kv, key := outsider(t, nats.URL), one.bucket.key
	old, err := kv.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(old.Value()), "openrouter") {
		t.Error("an outsider can read the document")
	}
	one.push(t, routeTo("b"))
	awaitVersion(t, 2, one, two)
	newest := func() bool {
		pulled, err := one.Pull(t.Context(), 0)
		return err == nil && pulled.Fleet != nil && pulled.Fleet.Version == 2
	}
	for name, harm := range map[string]func() error{
		"an old document": func() error { _, err := kv.Put(t.Context(), key, old.Value()); return err },
		"another text":    func() error { _, err := kv.Put(t.Context(), key, []byte("{}")); return err },
		"a deletion":      func() error { return kv.Delete(t.Context(), key) },
		"a purge":         func() error { return kv.Purge(t.Context(), key) },
		"no bucket": func() error {
			js, err := jetstream.New(jsConn(t, nats.URL))
			if err != nil {
				return err
			}
			return js.DeleteKeyValue(t.Context(), bucketName)
		},
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		await(t, "the bucket has version 2 again after "+name, newest)
		for _, b := range []*box{one, two} {
			if s := b.Status(); s.Version != 2 || b.routed() != "b" {
				t.Errorf("%s: %+v, routes to %q", name, s, b.routed())
			}
		}
	}
}

// TestWithoutNATS: a box starts with the last document that it had, and takes a newer one when
// it is back.
func TestWithoutNATS(t *testing.T) {
	nats := fleettest.Start(t)
	dir := t.TempDir()
	one, two := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, nats.URL), newBox(t, dir, "").join(t, "two", fleetKey, nats.URL)
	one.push(t, routeTo("a"))
	awaitVersion(t, 1, one, two)
	two.stop()
	one.push(t, routeTo("b"))
	again := newBox(t, dir, "")
	if s := again.Status(); s.Version != 1 || again.routed() != "a" {
		t.Errorf("%+v, routes to %q", s, again.routed())
	}
	again.start(t, "two", fleetKey, "nats://127.0.0.1:1")
	_, err := again.Push(t.Context(), control.PushRequest{File: "f", Text: routeTo("c")}, "ann")
	mustContain(t, err, "this box is not in its fleet now: connect to NATS at nats://127.0.0.1:1: ")
	mustContain(t, err, "; nothing was pushed")
	if pulled, err := again.Pull(t.Context(), 0); err != nil || pulled.Problem == "" || pulled.Running.Version != 1 {
		t.Errorf("%+v, %v", pulled, err)
	}
	again.stop()
	again.join(t, "two", fleetKey, nats.URL)
	awaitVersion(t, 2, again)

	path := fileOf(dir)
	newer := `{"fleet": "x", "document": {"version": 9, "text": "routes: {m: {primary: a, of_a_newer_version: 1}}"}}`
	if err := os.WriteFile(path, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Saved(dir)
	mustContain(t, err, `the fleet's version 9:1: unknown key "of_a_newer_version"`)
	mustContain(t, err, "it is in "+path+": remove that")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Saved(dir)
	mustContain(t, err, "remove "+path)
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestOtherFleet: a box that comes from another fleet, or whose fleet has a new key, does not
// bring its document along, and uses it until there is another one.
func TestOtherFleet(t *testing.T) {
	nats, other := fleettest.Start(t), fleettest.Start(t)
	dir := t.TempDir()
	first := newBox(t, dir, "").join(t, "one", fleetKey, nats.URL)
	for i := range 3 {
		first.push(t, routeTo(fmt.Sprint("old", i)))
	}
	first.stop()
	moved, there := newBox(t, dir, "").join(t, "one", otherKey, other.URL), newBox(t, t.TempDir(), "").join(t, "two", otherKey, other.URL)
	await(t, "the moved box has read the bucket", moved.connected)
	if s := moved.Status(); s.Version != 3 || moved.routed() != "old2" || !strings.Contains(s.Problem, "uses version 3 of another fleet or key; llmsup fleet push") {
		t.Errorf("%+v, routes to %q", s, moved.routed())
	}
	for _, version := range []uint64{0, 3} { // until then a pull prints it
		if pulled, err := moved.Pull(t.Context(), version); err != nil || pulled.Fleet != nil || pulled.Running == nil || !strings.Contains(pulled.Running.Text, "old2") {
			t.Errorf("%+v, %v", pulled, err)
		}
	}
	_, err := moved.Pull(t.Context(), 2)
	mustContain(t, err, "the fleet has no version 2")
	if pushed := there.push(t, routeTo("new")); pushed.Version < 1 || pushed.Previous != nil {
		t.Errorf("%+v", pushed)
	}
	await(t, "the moved box has the new fleet's", func() bool { return moved.routed() == "new" && moved.Status().Problem == "" })
}

// TestCluster: a push succeeds and reaches all boxes after the server that leads the bucket was
// killed.
func TestCluster(t *testing.T) {
	cluster := fleettest.StartCluster(t, 3)
	one, two := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, cluster.URLs...), newBox(t, t.TempDir(), "").join(t, "two", fleetKey, cluster.URLs...)
	one.push(t, routeTo("a"))
	awaitVersion(t, 1, one, two)
	kv := outsider(t, strings.Join(cluster.URLs, ","))
	status, err := kv.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info := status.(*jetstream.KeyValueBucketStatus).StreamInfo()
	if info.Config.Replicas != 3 || info.Config.Storage != jetstream.FileStorage {
		t.Errorf("the bucket has %d copies in %v", info.Config.Replicas, info.Config.Storage)
	}
	for i, name := range cluster.Names {
		if name == info.Cluster.Leader {
			cluster.Kill(i)
		}
	}
	await(t, "a push succeeds", func() bool {
		_, err := one.Push(t.Context(), control.PushRequest{File: "f", Text: routeTo("b")}, "ann")
		return err == nil
	})
	await(t, "both have it", func() bool { return one.routed() == "b" && two.routed() == "b" })
}

// TestNotPut: a push whose message may have arrived is not reported as one that was not made.
func TestNotPut(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"no answer":                {context.DeadlineExceeded, "NATS has not confirmed that it has version 7: "},
		"the client has left":      {context.Canceled, "NATS has not confirmed that it has version 7: "},
		"the connection is lost":   {nats.ErrConnectionClosed, "NATS has not confirmed that it has version 7: "},
		"no server has the bucket": {nats.ErrNoResponders, "; nothing was pushed"},
		"the bucket refuses it":    {&jetstream.APIError{Code: 503, Description: "insufficient resources"}, "; nothing was pushed"},
	} {
		t.Run(name, func(t *testing.T) {
			mustContain(t, notPut(fmt.Errorf("write to the bucket: %w", tc.err), 7), tc.want)
		})
	}
}

// TestConnectionLostInPush: when the connection breaks after the message was sent, the pushing box
// does not say that nothing was pushed.
func TestConnectionLostInPush(t *testing.T) {
	server := fleettest.Start(t)
	proxy := fleettest.StartProxy(t, server.URL)
	one := newBox(t, t.TempDir(), "").join(t, "one", fleetKey, proxy.URL)
	if _, err := jsConn(t, server.URL).Subscribe("$KV."+bucketName+".>", func(*nats.Msg) { proxy.Cut() }); err != nil {
		t.Fatal(err)
	}
	_, err := one.Push(t.Context(), control.PushRequest{File: "f", Text: routeTo("c")}, "ann")
	if err != nil && !strings.Contains(err.Error(), "NATS has not confirmed that it has version 1: ") { // nil = the answer was faster
		t.Error(err)
	}
}
