package ledger

import (
	"cmp"
	"fmt"
	"time"
)

// Condition is how well rows reach the database.
//
//	OK <--> Behind <--> Spilling
//	 ^-------------------^
type Condition int

// The conditions.
const (
	OK       Condition = iota // rows are in the database within seconds
	Behind                    // the database works, but does not have all rows yet
	Spilling                  // the database or the journal cannot be used: rows wait in the journal or in memory
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

// behindAfter is how long a row may wait for the database.
const behindAfter = 3 * time.Second

// State is the state of the ledger at one moment.
type State struct {
	Condition   Condition
	Reason      string        // one line; "" if OK
	Lag         time.Duration // how long the oldest waiting row has waited for the database
	Waiting     int           // lines in memory, not yet in the journal
	Lost        int           // rows of free calls that were dropped since the start
	Quarantined string        // path of a corrupt database that was renamed since the start; "" = none
	Converting  bool          // the table calls does not have all calls of an earlier version yet
}

// State returns the present state. It does not block.
func (l *Ledger) State() State {
	if l == nil {
		return State{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state()
}

func (l *Ledger) state() State {
	s := State{Waiting: l.queues[0].len() + l.queues[1].len(), Lost: l.dropped, Quarantined: l.quarantined, Converting: l.converting}
	for _, oldest := range []time.Time{l.oldestImport, l.oldest, l.queues[0].oldest(), l.queues[1].oldest()} {
		if !oldest.IsZero() {
			s.Lag = max(s.Lag, time.Since(oldest))
		}
	}
	fault := l.journalFault()
	switch {
	case l.databaseErr != nil && l.databaseErr != errNotOpen:
		s.Condition, s.Reason = Spilling, describeError(l.path(), l.databaseErr)
		if fault != "" {
			s.Reason += "; " + fault
		}
	case fault != "":
		s.Condition, s.Reason = Spilling, fault
	case s.Lag <= behindAfter:
	case !l.oldestImport.IsZero():
		s.Condition, s.Reason = Behind, "rows of the journal are being imported"
	default:
		s.Condition, s.Reason = Behind, fmt.Sprintf("%s: a write takes long", l.path())
	}
	return s
}

// journalFault says why rows cannot be written to the journal and wait in memory, where the
// end of llmsup loses them; "" = they can.
func (l *Ledger) journalFault() string {
	err := cmp.Or(l.queues[0].err, l.queues[1].err)
	switch {
	case l.writeHung:
		return fmt.Sprintf("a write to the journal in %s hangs: check its disk; rows wait in memory", l.dir)
	case err != nil:
		return fmt.Sprintf("the journal in %s cannot be written: %v; rows wait in memory", l.dir, err)
	default:
		return ""
	}
}

// publish wakes the goroutines that wait for a change, and logs a change of the condition,
// and that rows begin to wait in memory. The caller holds the mutex.
func (l *Ledger) publish() {
	l.announce()
	s, inMemory := l.state(), l.journalFault() != ""
	begins := inMemory && !l.inMemory
	l.inMemory = inMemory
	if !begins && (s.Condition == Behind || s.Condition == l.logged || s.Condition == OK && !l.oldestImport.IsZero()) {
		return
	}
	l.logged = s.Condition
	if s.Condition == Spilling {
		l.log.Warn().Str("reason", s.Reason).Msg("the ledger cannot store rows; calls continue, and their rows wait")
	} else {
		l.log.Info().Msg("the ledger works again")
	}
}
