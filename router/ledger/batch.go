package ledger

import (
	"errors"
	"strconv"

	"github.com/tidwall/gjson"
)

// batch is rows that are written together, and so become one row of the table
// batch: a row of the database costs as much as a dozen in its text.
type batch struct {
	batchKey
	since, until int64  // of the first call of the day and of the last, in its milliseconds
	calls        []byte // see appendCall
	sums         daySums
}

// batchKey is what the rows of a batch have in common.
type batchKey struct {
	day, kind int64
	run       int64 // the upper half of their ids
	slice     int64 // of the day, see sliceLength
}

// sliceLength bounds the time between the first and the last call of a batch, in
// milliseconds. By that those of a time are found by their last ones, which are
// indexed.
const sliceLength = 10 * 60 * 1000

// runBits are those of an id's lower half, which counts the rows of a run.
const runBits = 32

func (e *entry) batchKey(kind int64) batchKey {
	return batchKey{e.day(), kind, e.id >> runBits, e.time % dayLength / sliceLength}
}

// batchesOf sorts rows of the kinds beside them into batches. The text of the first
// one, as a rule of nearly all rows, is written to room.
func batchesOf(entries []*entry, kinds []int64, room []byte) []batch {
	var batches []batch
	places := map[batchKey]int{}
	last := -1 // of the row before, which nearly always is of the same
	for i, e := range entries {
		key := e.batchKey(kinds[i])
		if last < 0 || batches[last].batchKey != key {
			var known bool
			if last, known = places[key]; !known {
				last = len(batches)
				places[key] = last
				batches = append(batches, batch{batchKey: key, since: dayLength, calls: append(room[:0], '[')})
				room = nil
			}
		}
		batches[last].add(e)
	}
	for i := range batches {
		batches[i].calls[len(batches[i].calls)-1] = ']'
	}
	return batches
}

func (b *batch) add(e *entry) {
	at := e.time % dayLength
	b.since, b.until = min(b.since, at), max(b.until, at)
	b.calls = append(appendCall(b.calls, at, e), ',')
	b.sums.add(e)
}

// appendCall appends a row as a batch's text has it: a JSON array, so that SQL can
// read it, of
//
//	when it came, in milliseconds of the day; the lower half of its id; its request;
//	tokens: prompt, cached, completion; picodollars: cost, saved;
//	milliseconds: to the first answer, in all; what budgets count, if that is not the cost
//
// with null for what is not known.
func appendCall(text []byte, at int64, e *entry) []byte {
	text = append(text, '[')
	text = strconv.AppendInt(text, at, 10)
	text = append(text, ',')
	text = strconv.AppendInt(text, e.id&(1<<runBits-1), 10)
	text = append(text, ',')
	text = appendWord(text, e.request)
	first := figure(e.first)
	if first == 0 {
		first = unknown
	}
	for _, n := range [...]figure{e.prompt, e.cached, e.completion, e.cost, e.saved, first, figure(e.took)} {
		if n == unknown {
			text = append(text, ",null"...)
		} else {
			text = strconv.AppendInt(append(text, ','), int64(n), 10)
		}
	}
	if e.charged != unknown {
		text = strconv.AppendInt(append(text, ','), int64(e.charged), 10)
	}
	return append(text, ']')
}

// appendWord appends a JSON string. Nearly all are letters and digits.
func appendWord(text []byte, word string) []byte {
	for i := range len(word) {
		if c := word[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return gjson.AppendJSONString(text, word)
		}
	}
	return append(append(append(text, '"'), word...), '"')
}

// errDamaged says that a batch's text is none: somebody wrote it by hand, or a disk
// did. The database is sound all the same, and so are the sums of its days.
var errDamaged = errors.New("the calls of a batch in it can't be read")

// callColumns is how many values a call has in a batch's text at most. The last one
// may be missing.
const callColumns = 11

// readCalls calls take with each call of a batch's text: its values, as appendCall
// orders them, good until take returns.
func readCalls(text string, take func(*[callColumns]gjson.Result)) error {
	all := gjson.Parse(text)
	if !gjson.Valid(text) || !all.IsArray() {
		return errDamaged
	}
	var values [callColumns]gjson.Result
	whole := true
	all.ForEach(func(_, call gjson.Result) bool {
		n := 0
		values[callColumns-1] = gjson.Result{}
		call.ForEach(func(_, value gjson.Result) bool {
			if n < callColumns {
				values[n] = value
			}
			n++
			return true
		})
		if whole = (n == callColumns || n == callColumns-1) && call.IsArray() && isCall(&values); whole {
			take(&values)
		}
		return whole
	})
	if !whole {
		return errDamaged
	}
	return nil
}

// isCall says whether values are of the types that a call's have.
func isCall(values *[callColumns]gjson.Result) bool {
	for i := range values {
		is := values[i].Type
		if is != gjson.Number && !(i == 2 && is == gjson.String) && !(i > 2 && i != 9 && is == gjson.Null) {
			return false
		}
	}
	return true
}
