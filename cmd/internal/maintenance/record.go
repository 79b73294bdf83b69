package maintenance

import (
	"maps"
	"slices"
	"time"

	"github.com/llmsup/llmsup/supervisor"
)

// DefaultTimeout is how long running calls may take when the request does not say.
const DefaultTimeout = 10 * time.Minute

// Drain is an operator's drain of one server.
type Drain struct {
	Since      time.Time `json:"since"`
	Until      time.Time `json:"until,omitzero"` // when it ends by itself; zero = with llmsup resume
	KeepServer bool      `json:"keep_server,omitempty"`

	callsUntil time.Time // its running calls may go on until then; zero = for DefaultTimeout
	damaged    string    // why the file that should describe it can't be read; "" = it can
}

// Hold is what the supervisor has to do for the drain.
func (d Drain) Hold() supervisor.DrainOptions {
	return supervisor.DrainOptions{Until: d.callsUntil, Ends: d.Until, Keep: d.KeepServer, Reason: d.Reason()}
}

// Reason explains the state of a drained server.
func (d Drain) Reason() string {
	switch {
	case d.damaged != "":
		return "a drain is remembered, but " + d.damaged + "; llmsup resume ends it"
	case d.Until.IsZero():
		return "taken out of use by an operator at " + clock(d.Since) + ", until llmsup resume"
	}
	return "taken out of use by an operator at " + clock(d.Since) + ", until " + clock(d.Until)
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// over says whether the drain has ended by itself.
func (d Drain) over(now time.Time) bool { return !d.Until.IsZero() && !now.Before(d.Until) }

// equal says whether the file would describe both drains in the same way.
func (d Drain) equal(other Drain) bool {
	return d.Since.Equal(other.Since) && d.Until.Equal(other.Until) && d.KeepServer == other.KeepServer
}

// Record is which servers are drained. Its zero value is none. Its methods return
// the next one and leave it as it is.
type Record struct {
	// All is a drain of all servers, which holds for one that a reload adds, too. It
	// ends as soon as one of them is in use again; nil = there is none.
	All     *Drain
	Servers map[string]Drain // each drained server, those of All included
}

// Request is what an operator wants who drains servers.
type Request struct {
	Servers    []string      // nil = all
	For        time.Duration // after which the servers are in use again; 0 = with llmsup resume
	Timeout    time.Duration // for running calls; 0 = as before, or DefaultTimeout
	KeepServer bool          // their processes stay
}

// Empty says whether no server is drained, and none that a reload adds will be.
func (r Record) Empty() bool { return r.All == nil && len(r.Servers) == 0 }

// Of returns the drain of a server. One that the record does not know, since it is
// new or about to be removed, has that of all servers.
func (r Record) Of(server string) (drain Drain, drained bool) {
	if drain, drained = r.Servers[server]; !drained && r.All != nil {
		return *r.All, true
	}
	return drain, drained
}

// Drain carries out a request. A server that is drained already stays drained since
// then, and until the same time unless the request names another; its process stays
// only if both requests say so. present are the servers of the configuration.
func (r Record) Drain(q Request, present []string, now time.Time) Record {
	next := r.clone()
	targets := q.Servers
	if targets == nil {
		targets = present
		all := Drain{}.merged(q, now)
		if r.All != nil {
			all = r.All.merged(q, now)
		}
		next.All = &all
	}
	for _, name := range targets {
		drain, _ := r.Of(name)
		next.Servers[name] = drain.merged(q, now)
	}
	return next
}

// merged is a drain after another request for it. The zero value is none so far.
func (d Drain) merged(q Request, now time.Time) Drain {
	next := Drain{Since: now, KeepServer: q.KeepServer}
	if !d.Since.IsZero() {
		next = Drain{Since: d.Since, Until: d.Until, KeepServer: d.KeepServer && q.KeepServer, callsUntil: d.callsUntil}
	}
	if q.For > 0 {
		next.Until = now.Add(q.For).Round(0) // by the wall clock: a machine may sleep
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

// Expire ends the drains whose time is over, and returns the servers that are to be
// used again, sorted.
func (r Record) Expire(now time.Time) (next Record, ended []string) {
	for _, name := range slices.Sorted(maps.Keys(r.Servers)) {
		if r.Servers[name].over(now) {
			ended = append(ended, name)
		}
	}
	next = r.Resume(ended)
	if next.All != nil && next.All.over(now) {
		next.All = nil
	}
	return next, ended
}

// Follow adapts the record to the servers of another configuration: a drain of all
// includes those that were added, and what was removed is forgotten.
func (r Record) Follow(present []string) Record {
	next := Record{All: r.All, Servers: map[string]Drain{}}
	for _, name := range present {
		if drain, drained := r.Of(name); drained {
			next.Servers[name] = drain
		}
	}
	return next
}

// NextEnd is when the first drain ends by itself; zero = none does.
func (r Record) NextEnd() (first time.Time) {
	for _, drain := range r.drains() {
		if first.IsZero() || !drain.Until.IsZero() && drain.Until.Before(first) {
			first = drain.Until
		}
	}
	return first
}

// Together describes the drains of all present servers as one: since the last one
// began, and until the first one ends. drained is false while one of the servers is
// in use.
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
