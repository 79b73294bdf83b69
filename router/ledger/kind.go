package ledger

import "strings"

// kind is what calls have in common that are added up together. The database has
// a table of them, so that a call's own row is little more than figures.
type kind struct {
	key, route, model, backend, served, reason   string
	status                                       int
	stream, local, meant, paid, resumed, partial bool
}

func (r *Row) kind() kind {
	return kind{
		key: r.Key, route: r.Route, model: r.Model, backend: r.Backend, served: r.Served, reason: r.Reason,
		status: r.Status, stream: r.Stream, local: r.Local, meant: r.Meant, paid: r.Paid, resumed: r.Resumed, partial: r.Partial,
	}
}

// has says that a row is of the kind. It is asked for each call, and quicker than
// to make the row's kind first.
func (k *kind) has(r *Row) bool {
	return k.status == r.Status && k.model == r.Model && k.served == r.Served && k.backend == r.Backend && k.key == r.Key && k.route == r.Route &&
		k.reason == r.Reason && k.stream == r.Stream && k.local == r.Local && k.meant == r.Meant && k.paid == r.Paid && k.resumed == r.Resumed && k.partial == r.Partial
}

// words are those of a kind.
func (k *kind) words() [6]*string {
	return [...]*string{&k.key, &k.route, &k.model, &k.backend, &k.served, &k.reason}
}

// kinds has the kinds of rows that wait, each once: a row with a pointer to one
// costs a third of a row with its words, in memory and to the garbage collector.
type kinds struct {
	last *kind // nearly always the next row's, too
	all  map[kind]*kind
}

// maxKinds bounds what is remembered of the table of kinds.
const maxKinds = 4096

// of returns the kind of a row, with words that can be written.
func (ks *kinds) of(r *Row) *kind {
	if ks.last != nil && ks.last.has(r) {
		return ks.last
	}
	k := r.kind()
	for _, word := range k.words() {
		*word = trim(*word)
	}
	known := ks.all[k]
	if known == nil {
		for _, word := range k.words() {
			*word = strings.Clone(*word) // a model's name may be a part of all that its caller has sent
		}
		known = &k
		if len(ks.all) >= maxKinds || ks.all == nil {
			ks.all = map[kind]*kind{}
		}
		ks.all[k] = known
	}
	ks.last = known
	return known
}

// maxWord bounds each word of a row, in bytes: a client can make up a name of any
// length.
const maxWord = 200

// trim makes a word one that can be written anywhere, and read back as it was.
func trim(word string) string {
	if isPlain(word) {
		return word
	}
	return strings.ReplaceAll(strings.ToValidUTF8(word[:min(len(word), maxWord)], "?"), "\x00", "?")
}

// isPlain says whether a word can be written as it is, as nearly all can.
func isPlain(word string) bool {
	if len(word) > maxWord {
		return false
	}
	for i := range len(word) {
		if c := word[i]; c == 0 || c >= 0x80 {
			return false
		}
	}
	return true
}
