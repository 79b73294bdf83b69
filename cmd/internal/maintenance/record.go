package maintenance

import (
	"maps"
	"slices"
	"time"

	"github.com/llmsup/llmsup/supervisor"
)

// DefaultTimeout is the time for running calls if the request has none.
const DefaultTimeout = 10 * time.Minute

// Drain is an operator's drain of one server.
type Drain struct {
	Since      time.Time `json:"since"`
	Until      time.Time `json:"until,omitzero"` // when it ends automatically; zero = with llmsup resume
	KeepServer bool      `json:"keep_server,omitempty"`

	callsUntil time.Time // the deadline of running calls; zero = DefaultTimeout
	damaged    string    // why the drain could not be read from its file; "" = it could
}

// Options returns the drain as the supervisor carries it out.
func (d Drain) Options() supervisor.DrainOptions {
	return supervisor.DrainOptions{Until: d.callsUntil, Ends: d.Until, Keep: d.KeepServer, Reason: d.Reason()}
}

// Reason explains the state of a drained server.
func (d Drain) Reason() string {
	switch {
	case d.damaged != "":
		return "there is a saved drain, but " + d.damaged + "; llmsup resume ends it"
	case d.Until.IsZero():
		return "taken out of use by an operator at " + clock(d.Since) + ", until llmsup resume"
	}
	return "taken out of use by an operator at " + clock(d.Since) + ", until " + clock(d.Until)
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// expired reports whether the drain has ended automatically.
func (d Drain) expired(now time.Time) bool { return !d.Until.IsZero() && !now.Before(d.Until) }

// equal reports whether two drains have the same stored form.
func (d Drain) equal(other Drain) bool {
	return d.Since.Equal(other.Since) && d.Until.Equal(other.Until) && d.KeepServer == other.KeepServer
}

// Record is the set of drained servers. Its zero value is empty. Its methods return a new
// record and do not change it.
type Record struct {
	// All is a drain of all servers, including those that a reload adds. It ends as soon
	// as one of them is in use again; nil = none.
	All     *Drain
	Servers map[string]Drain // each drained server, those of All included
}

// Request is an operator's request to drain servers.
type Request struct {
	Servers    []string      // nil = all
	For        time.Duration // until the servers are in use again; 0 = with llmsup resume
	Timeout    time.Duration // for running calls; 0 = unchanged, or DefaultTimeout
	KeepServer bool          // their processes keep running
}

// Empty reports whether no server is drained, nor any that a reload adds.
func (r Record) Empty() bool { return r.All == nil && len(r.Servers) == 0 }

// Of returns the drain of a server. A server that the record does not know, since it is new
// or being removed, has the drain of all servers.
func (r Record) Of(server string) (drain Drain, drained bool) {
	if drain, drained = r.Servers[server]; !drained && r.All != nil {
		return *r.All, true
	}
	return drain, drained
}

// Drain applies a request. A server that is drained already keeps the start of its drain,
// and the end unless the request sets another one; its process keeps running only if both
// requests say so. present are the configured servers.
func (r Record) Drain(q Request, present []string, now time.Time) Record {
	next := r.clone()
	targets := q.Servers
	if targets == nil {
		targets = present
		all := Drain{}.update(q, now)
		if r.All != nil {
			all = r.All.update(q, now)
		}
		next.All = &all
	}
	for _, name := range targets {
		drain, _ := r.Of(name)
		next.Servers[name] = drain.update(q, now)
	}
	return next
}

// update returns a drain after another request for it. The zero value is no drain yet.
func (d Drain) update(q Request, now time.Time) Drain {
	next := Drain{Since: now, KeepServer: q.KeepServer}
	if !d.Since.IsZero() {
		next = Drain{Since: d.Since, Until: d.Until, KeepServer: d.KeepServer && q.KeepServer, callsUntil: d.callsUntil}
	}
	if q.For > 0 {
		next.Until = now.Add(q.For).Round(0) // wall clock time: a machine may sleep
	}
	switch {
	case q.Timeout > 0:
		next.callsUntil = now.Add(q.Timeout)
	case d.Since.IsZero():
		next.callsUntil = now.Add(DefaultTimeout)
	}
	return next
}

// Resume ends the drains of some servers.
func (r Record) Resume(servers []string) Record {
	next := r.clone()
	for _, name := range servers {
		delete(next.Servers, name)
		next.All = nil
	}
	return next
}

// Expire ends the drains that have expired, and returns the servers that are to be used
// again, sorted.
func (r Record) Expire(now time.Time) (next Record, ended []string) {
	for _, name := range slices.Sorted(maps.Keys(r.Servers)) {
		if r.Servers[name].expired(now) {
			ended = append(ended, name)
		}
	}
	next = r.Resume(ended)
	if next.All != nil && next.All.expired(now) {
		next.All = nil
	}
	return next, ended
}

// Follow adapts the record to the servers of a new configuration: a drain of all includes
// added servers, and drains of removed servers are dropped.
func (r Record) Follow(present []string) Record {
	next := Record{All: r.All, Servers: map[string]Drain{}}
	for _, name := range present {
		if drain, drained := r.Of(name); drained {
			next.Servers[name] = drain
		}
	}
	return next
}

// NextEnd returns when the first drain ends automatically; zero = none does.
func (r Record) NextEnd() (first time.Time) {
	for _, drain := range r.drains() {
		if first.IsZero() || !drain.Until.IsZero() && drain.Until.Before(first) {
			first = drain.Until
		}
	}
	return first
}

// Together returns the drains of all present servers as one: from the start of the last
// one until the end of the first one. drained is false while one of the servers is in
// use.
func (r Record) Together(present []string) (together Drain, drained bool) {
	switch {
	case len(present) == 0 && r.All != nil:
		return *r.All, true
	case len(present) == 0:
		return Drain{}, false
	}
	only := Record{Servers: map[string]Drain{}}
	for _, name := range present {
		drain, drained := r.Of(name)
		if !drained {
			return Drain{}, false
		}
		only.Servers[name] = drain
		if drain.Since.After(together.Since) {
			together.Since = drain.Since
		}
		together.KeepServer = together.KeepServer || drain.KeepServer
	}
	together.Until = only.NextEnd()
	return together, true
}

func (r Record) drains() []Drain {
	all := slices.Collect(maps.Values(r.Servers))
	if r.All != nil {
		all = append(all, *r.All)
	}
	return all
}

func (r Record) clone() Record {
	next := Record{All: r.All, Servers: map[string]Drain{}}
	maps.Copy(next.Servers, r.Servers)
	return next
}
