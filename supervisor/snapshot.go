package supervisor

import "time"

// Endpoint is where a running llama-server listens. The zero value is nowhere.
type Endpoint struct {
	Network string // "unix" or "tcp", as net.Dial takes it
	Address string // a socket's path, or host:port
	Key     string // the API key that this process asks for; secret
}

// Exit is how a llama-server process ended. It is made once and never changed.
type Exit struct {
	At     time.Time
	Code   int      // exit status; -1 when a signal ended it or it never started
	Signal string   // "SIGKILL", ...; "" when it exited by itself
	Class  Class    // what kind of end it was
	Cause  string   // one line for a person: how it ended, why, and what to do
	Tail   []string // its last lines, 8 KiB at most; once it has served, they may quote a prompt

	served bool // it had been ready
}

// Snapshot is what is known of a server at one moment. It is immutable:
// readers keep it as long as they like and take no lock for it.
type Snapshot struct {
	Name     string
	Model    string // path of the GGUF
	State    State
	Since    time.Time // when State was entered
	Reason   string    // one line for a person; "" where the state says it all
	PID      int       // 0 when no process runs
	Direct   bool      // that process answers itself, and not one below it; false until it is known
	Restarts int       // starts after the first one
	Endpoint Endpoint  // meaningful while State.Alive()
	CtxSize  int       // tokens a slot, as the server itself says once it is loaded; before, as asked for
	Slots    int       // calls it works on at once; 0 until it said so
	LastExit *Exit     // nil until a process of it ended

	// DrainRequested says that an operator's drain is in force, whatever State is by
	// now. State Draining without it is the end of a process that is replaced or
	// stopped for another reason.
	DrainRequested bool
	DrainEnds      time.Time // when that drain ends by itself; zero = with Resume

	// Removed says that the server is no longer wanted (Server.Remove): it ends when
	// its calls have, and takes none again.
	Removed bool

	// RestartsBy is Restarts by the class of the end before each of them.
	RestartsBy map[Class]int
	// NextStart is when the pause of state Restarting ends; zero = there is none.
	NextStart time.Time
	// LoadDuration is what the last load took, from the process's start to the first
	// completion; 0 until there was one.
	LoadDuration time.Duration

	// Exited is closed as soon as the process that Endpoint leads to has ended or
	// is given up. A call that still waits on it may move elsewhere then. It is
	// nil when no process runs.
	Exited <-chan struct{}
	// Hung says that the last process was given up because it did nothing any
	// more. It stands as soon as Exited is closed.
	Hung bool
	// Changed is closed when a newer snapshot was published.
	Changed <-chan struct{}
}
