package supervisor

import (
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor/process"
)

// Endpoint is where a running process listens. The zero value is nowhere.
type Endpoint = process.Endpoint

// Exit is how a process ended. It is created once and never changed.
type Exit struct {
	At     time.Time
	Code   int      // exit status; -1 when a signal ended it or it never started
	Signal string   // "SIGKILL", ...; "" when it exited by itself
	Class  Class    // why it ended
	Cause  string   // one line for a person: how it ended, why, and what to do
	Tail   []string // its last lines, 8 KiB at most; if it has served, they may quote a prompt
	Served bool     // it had been ready
}

// Snapshot is what is known about a server at one moment. It is immutable:
// readers keep it as long as they like and take no lock.
type Snapshot struct {
	Name     string
	Model    string // path of the GGUF
	State    State
	Since    time.Time // when State was entered
	Reason   string    // one line for a person; "" where the state says it all
	PID      int       // 0 when no process runs
	token    string    // in the environment of the process and of those below it; "" = only its group counts
	Direct   bool      // this process itself answers, not one below it; false until it is known
	Restarts int       // starts after the first one
	Endpoint Endpoint  // meaningful while State.Alive()
	// Description is what is known of the model; nil = its file has not been read yet, or
	// cannot be.
	Description *models.Description

	CtxSize  int   // tokens a slot, as the program reports it once it is loaded; before, as configured
	Slots    int   // calls that it works on at the same time; 0 = not known yet
	LastExit *Exit // nil until one of its processes has ended

	// DrainRequested says that an operator's drain is in force, whatever State is.
	// State Draining without it is the end of a process that is replaced or stopped
	// for another reason.
	DrainRequested bool
	DrainEnds      time.Time // when that drain ends by itself; zero = only with Resume

	// UnloadRequested says that the server is unloaded, or is going to be, until a call
	// needs it; no operator's drain is in force.
	UnloadRequested bool

	// Removed says that the server is no longer configured (Server.Remove): it ends
	// when its calls have, and takes none again.
	Removed bool

	// RestartsBy is Restarts by the class of the exit before each of them.
	RestartsBy map[Class]int
	// NextStart is when the pause of state Restarting ends; zero = there is none.
	NextStart time.Time
	// LoadDuration is the time from the last process's start to its first answer to a test call;
	// 0 until there was one.
	LoadDuration time.Duration

	// Exited is closed as soon as the process behind Endpoint has ended or will get
	// no time to finish its calls. A call that still waits for it may then move
	// elsewhere. It is nil when no process runs.
	Exited <-chan struct{}
	// Hung says that the last process was ended because it showed no sign of life. It
	// is set before Exited is closed.
	Hung bool
	// Changed is closed when a newer snapshot has been published.
	Changed <-chan struct{}
}
