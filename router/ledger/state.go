package ledger

import (
	"fmt"
	"time"
)

// A Condition says in one word how the ledger is.
//
//	OK <--> Behind <--> Spilling
//	 ^-------------------^
type Condition int

// The conditions.
const (
	OK       Condition = iota // rows are in the database within 100 ms
	Behind                    // the database works, and has not got everything yet
	Spilling                  // it can't be used: rows go to a file beside it
)

func (c Condition) String() string {
	switch c {
	case Behind:
		return "behind"
	case Spilling:
		return "spilling"
	default:
		return "ok"
	}
}

// behindAfter is how old a row may be that is not in the database.
const behindAfter = time.Second

// State is how the ledger is at one moment.
type State struct {
	Condition Condition
	Reason    string        // for a person; "" when all is well
	Lag       time.Duration // how long the oldest row that is not in the database has waited for it
	Waiting   int           // rows in memory
	Lost      int           // rows of free calls that were dropped, since the start
	Aside     string        // where a corrupt database was moved to, since the start; "" = there was none
}

// State returns how the ledger is. It waits for nothing.
func (l *Ledger) State() State {
	if l == nil {
		return State{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state()
}

func (l *Ledger) state() State {
	s := State{Waiting: len(l.waiting) + len(l.inflight), Lost: l.lost, Aside: l.aside}
	switch {
	case len(l.inflight) > 0:
		s.Lag = time.Since(l.inflight[0].born)
	case len(l.waiting) > 0:
		s.Lag = time.Since(l.waiting[0].born)
	}
	if l.behind {
		s.Lag = max(s.Lag, l.opts.now().Sub(l.spilled))
	}
	switch {
	case l.down != nil && l.down != errNotOpen:
		s.Condition, s.Reason = Spilling, explain(l.path(), l.down)
		if l.noSpill != nil {
			s.Reason += fmt.Sprintf("; nor can its spill: %v; rows of calls wait in memory", l.noSpill)
		}
	case s.Lag > behindAfter && l.behind:
		s.Condition, s.Reason = Behind, "what was written beside the database is being read back"
	case s.Lag > behindAfter:
		s.Condition, s.Reason = Behind, fmt.Sprintf("%s: a write takes long", l.path())
	}
	return s
}

// tell writes a change of the condition into the log. The caller holds the mutex.
func (l *Ledger) tell() {
	l.announce()
	s := l.state()
	if s.Condition == Behind || s.Condition == l.told || s.Condition == OK && l.behind {
		return
	}
	l.told = s.Condition
	if s.Condition == Spilling {
		l.log.Warn().Str("reason", s.Reason).Msg("the ledger's database can't be used; calls go on, and their rows are written beside it")
	} else {
		l.log.Info().Msg("the ledger's database works again, and has everything")
	}
}
