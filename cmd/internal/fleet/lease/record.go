package lease

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// Record is who may spend how much of a limit in a window. Boxes replace it by compare-and-set.
type Record struct {
	Window       string     `json:"window"`        // the record's own key in the bucket
	Version      uint64     `json:"version"`       // grows with each replacement
	Limit        usd.Amount `json:"limit"`         // as the box with the latest limits knows it
	LimitVersion uint64     `json:"limit_version"` // of these limits
	Holders      []Holder   `json:"holders"`

	// Rebuilt is another one each time that the record was lost: then parts may be missing until
	// the boxes have added what they know. "" = it never was.
	Rebuilt string `json:"rebuilt,omitempty"`
	// Whole is whether they have, so that a process that starts later does not wait for them.
	Whole bool `json:"whole,omitempty"`
}

// Holder is a box's part of a limit: the lease of one process, or what processes of the box have
// spent that have ended.
type Holder struct {
	Box     string     `json:"box"`
	Ledger  string     `json:"ledger,omitempty"` // names the ledger that has the box's calls
	Lease   string     `json:"lease,omitempty"`  // budget.Lease.Unique; "" = of ended processes
	Granted usd.Amount `json:"granted"`
	Spent   usd.Amount `json:"spent"`             // of it, when the box last changed the record
	At      time.Time  `json:"at"`                // when that was, by the box's clock
	Rebuilt string     `json:"rebuilt,omitempty"` // Record.Rebuilt then

	// OtherNames is, of ended processes, what their ledger has and holders of its box's earlier names
	// have, too.
	OtherNames usd.Amount `json:"other_names,omitempty"`
}

// same reports whether two are the same part.
func (h *Holder) same(other *Holder) bool {
	return h.Lease == other.Lease && (h.Lease != "" || h.Box == other.Box && h.Ledger == other.Ledger)
}

// windowKey returns the key of a window's record in the bucket. A client's key may have points in
// its name, of which not all are valid there.
func windowKey(id budget.LeaseID) string {
	key := id.Period.String() + "." + id.From.UTC().Format(time.DateOnly)
	if id.Key != "" {
		key += ".key." + strings.ReplaceAll(id.Key, ".", "=")
	}
	return key
}

// maxHolders is more than a fleet has in a window.
const maxHolders = 10_000

var errForeign = errors.New("the record is not authenticated with this fleet's key, or is for another window")

// decode reads a record from the opened message.
func decode(window string, body []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("read the fleet's budget %s: %w; a box may have a newer version of llmsup", window, err)
	}
	if r.Window != window || len(r.Holders) > maxHolders {
		return nil, errForeign
	}
	return &r, nil
}

// merge adds what a box knows of an earlier record: of each part the larger one. A box that is
// there corrects its own part; what one holds that is gone must not be forgotten.
func (r *Record) merge(known *Record) *Record {
	next := new(*r)
	next.Holders = slices.Clone(r.Holders)
	next.Version = max(r.Version, known.Version)
	if known.LimitVersion > r.LimitVersion {
		next.Limit, next.LimitVersion = known.Limit, known.LimitVersion
	}
	for _, h := range known.Holders {
		i := slices.IndexFunc(next.Holders, func(other Holder) bool { return other.same(&h) })
		if i < 0 {
			next.Holders = append(next.Holders, h)
			continue
		}
		next.Holders[i].Granted, next.Holders[i].Spent = max(next.Holders[i].Granted, h.Granted), max(next.Holders[i].Spent, h.Spent)
	}
	return next
}

// complete reports whether each box has added what it knows since the record was lost, but for own,
// which adds it with the next change.
func (r *Record) complete(boxes []string, own string) bool {
	return !slices.ContainsFunc(boxes, func(box string) bool {
		return box != own && !slices.ContainsFunc(r.Holders, func(h Holder) bool { return h.Box == box && h.Lease != "" && h.Rebuilt == r.Rebuilt })
	})
}

// index returns where a lease is among the holders; -1 = it is not there.
func (r *Record) index(lease string) int {
	return slices.IndexFunc(r.Holders, func(h Holder) bool { return h.Lease == lease })
}

// granted returns a lease's part.
func (r *Record) granted(lease string) usd.Amount {
	if i := r.index(lease); i >= 0 {
		return r.Holders[i].Granted
	}
	return 0
}

// grantedToOthers returns the sum of all parts, but that of a lease.
func (r *Record) grantedToOthers(lease string) (sum usd.Amount) {
	for _, h := range r.Holders {
		if h.Lease != lease || h.Lease == "" {
			sum += h.Granted
		}
	}
	return sum
}

// spentByOthers returns what is known to be spent, but not by a lease.
func (r *Record) spentByOthers(lease string) usd.Amount {
	return r.elsewhere(lease, func(string) bool { return false })
}

// closeEnded replaces the leases of a box's ended processes by what they have spent: past, as
// the box's ledger says. Leases of another ledger stay, since nothing is known of their calls.
//
// So do leases of the same ledger under another name: the box may have been renamed, or be a copy of one that
// still runs. What they had when this name first came counts once; a copy spends more later.
func (r *Record) closeEnded(own Holder, past usd.Amount) {
	closed := Holder{Box: own.Box, Ledger: own.Ledger, At: own.At}
	atLeast, otherNames, first := usd.Amount(0), usd.Amount(0), true
	r.Holders = slices.DeleteFunc(slices.Clone(r.Holders), func(h Holder) bool {
		if h.Ledger != own.Ledger || h.Lease == own.Lease {
			return false
		}
		if h.Box != own.Box {
			otherNames += h.Granted
			return false
		}
		first = false
		if atLeast += h.Spent; h.Lease == "" {
			closed.At, closed.OtherNames = h.At, h.OtherNames
		}
		return true
	})
	if first {
		closed.OtherNames = min(otherNames, past)
	}
	if closed.Granted = max(past-closed.OtherNames, atLeast); closed.Granted > 0 || closed.OtherNames > 0 {
		closed.Spent = closed.Granted
		r.Holders = append(r.Holders, closed)
	}
}

// set adds a holder, or replaces the one with its lease.
func (r *Record) set(h Holder) {
	r.Holders = slices.Clone(r.Holders)
	if i := r.index(h.Lease); i >= 0 {
		r.Holders[i] = h
	} else {
		r.Holders = append(r.Holders, h)
	}
}

// boxes returns how many boxes have leases.
func (r *Record) boxes() int {
	seen := map[string]bool{}
	for _, h := range r.Holders {
		if h.Lease != "" {
			seen[h.Box] = true
		}
	}
	return len(seen)
}

// elsewhere returns what a lease cannot get of the limit: others have spent it, or hold it and
// are gone.
func (r *Record) elsewhere(lease string, gone func(box string) bool) (sum usd.Amount) {
	for _, h := range r.Holders {
		switch {
		case h.Lease == lease && lease != "":
		case h.Lease == "" || gone(h.Box):
			sum += h.Granted
		default:
			sum += h.Spent
		}
	}
	return sum
}

// richest returns the leases of other boxes that hold an amount together, and again as much: some of it
// may be spent meanwhile. Few boxes are asked: all change the same record.
func (r *Record) richest(own string, present []string, amount usd.Amount) (leases []string) {
	list := slices.DeleteFunc(slices.Clone(r.Holders), func(h Holder) bool {
		return h.Lease == "" || h.Lease == own || h.Granted <= h.Spent || !slices.Contains(present, h.Box)
	})
	slices.SortFunc(list, func(a, b Holder) int { return cmp.Compare(b.Granted-b.Spent, a.Granted-a.Spent) })
	for _, h := range list {
		if amount <= 0 {
			break
		}
		leases = append(leases, h.Lease)
		amount -= (h.Granted - h.Spent) / 2
	}
	return leases
}

// closed returns what a box's ended processes have spent.
func (r *Record) closed(own Holder) usd.Amount {
	for _, h := range r.Holders {
		if h.Lease == "" && h.Box == own.Box && h.Ledger == own.Ledger {
			return h.Granted
		}
	}
	return 0
}
