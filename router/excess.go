package router

import (
	"math"
	"sync"

	"github.com/llmsup/llmsup/router/usd"
)

// excess remembers by how much calls have cost more than was set aside for them,
// by who was asked for what: an upstream may add fees of its own, think for longer
// than it was allowed to, or count tokens as nobody else does. The next calls have
// that much more set aside. It is known from the first bill on, so that it can be
// passed once, by the calls that are under way at that time.
type excess struct{ most sync.Map } // served -> surplus

// served is a model at a backend.
type served struct{ backend, model string }

// surplus is the most that calls have cost beside what was set aside for them: as a
// share, as for an upstream that counts more tokens, and as an amount, as for one that
// takes a fee. Nobody knows which of them it was, and the smaller one holds for calls
// of the size of that one. For larger ones it may be too little, and is learned anew:
// else a call of a token with a fee would close its model for all that are larger.
type surplus struct {
	factor float64
	amount usd.Amount
}

// maxExcess keeps one absurd bill from closing a model for ever.
const maxExcess = 100

// learn takes the bill of a call into account, and what was set aside for it.
func (e *excess) learn(at served, estimate, cost usd.Amount) {
	if e == nil || estimate <= 0 || cost <= estimate {
		return
	}
	known := e.of(at)
	alone := max(float64(estimate)/known.factor, float64(estimate-known.amount)) // without what was known
	e.most.Store(at, surplus{
		factor: min(max(known.factor, float64(cost)/alone), maxExcess),
		amount: max(known.amount, cost-usd.Amount(alone)),
	})
}

// of returns what a call may cost beside its estimate.
func (e *excess) of(at served) surplus {
	if e == nil {
		return surplus{factor: 1}
	}
	most, ok := e.most.Load(at)
	if !ok {
		return surplus{factor: 1}
	}
	return most.(surplus) //nolint:forcetypeassert // learn stores no other
}

// apply returns an estimate with what is known to be wrong with it.
func (e *excess) apply(at served, estimate usd.Amount) usd.Amount {
	known := e.of(at)
	return min(usd.Amount(math.Ceil(float64(estimate)*known.factor)), estimate+known.amount, usd.Most)
}
