package ledger

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/tidwall/gjson"
)

// dayKind is what a row of the table day is for.
type dayKind struct{ day, kind int64 }

// edges are the sums of parts of days, for which the table day has none.
type edges map[dayKind]*daySums

// inPart selects the batches that may have calls of a part of a day.
const inPart = "SELECT id, kind, calls FROM batch WHERE day = ? AND until >= ? AND until < ? AND since < ?"

// read adds what came at from or later and before to, in milliseconds; both are of
// one day.
func (e edges) read(ctx context.Context, d *database, tx *sql.Tx, from, to int64) error {
	if from >= to {
		return nil
	}
	day := from / dayLength
	from, to = from-day*dayLength, to-day*dayLength
	rows, err := tx.QueryContext(ctx, inPart, day, from, to+sliceLength, to)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var batch, kind int64
		var calls string
		if err := rows.Scan(&batch, &kind, &calls); err != nil {
			return err
		}
		at := dayKind{day, kind}
		s := e[at]
		if s == nil {
			s = &daySums{}
			e[at] = s
		}
		if readCalls(calls, func(call *[callColumns]gjson.Result) {
			if t := call[0].Int(); t >= from && t < to {
				s.addCall(call)
			}
		}) != nil {
			d.passOver(batch)
		}
	}
	return rows.Err()
}

// addCall adds a call as it stands in a batch's text.
func (s *daySums) addCall(call *[callColumns]gjson.Result) {
	s.calls++
	prompt, cached, completion, cost, saved, first := &call[3], &call[4], &call[5], &call[6], &call[7], &call[8]
	if prompt.Type == gjson.Null || completion.Type == gjson.Null {
		s.noTokens++
	}
	s.prompt += prompt.Int()
	s.cached += cached.Int()
	s.completion += completion.Int()
	if s.cost += cost.Int(); cost.Type == gjson.Null {
		s.noCost++
	}
	if charged := &call[10]; charged.Type != gjson.Null {
		s.charged += charged.Int()
	} else {
		s.charged += cost.Int()
	}
	if s.saved += saved.Int(); saved.Type == gjson.Null {
		s.noSaved++
	}
	if first.Type != gjson.Null {
		s.answers++
		s.firstMS += first.Int()
	}
	s.ms += call[9].Int()
}

// text returns them as rollup reads them: an array of an array for each.
func (e edges) text() (string, error) {
	all := [][]int64{}
	for at, s := range e {
		if s.calls > 0 {
			all = append(all, []int64{
				at.day, at.kind, s.calls, s.prompt, s.cached, s.completion, s.noTokens, s.cost, s.noCost, s.saved, s.noSaved, s.answers, s.firstMS, s.ms,
				s.charged,
			})
		}
	}
	text, err := json.Marshal(all)
	return string(text), err
}
