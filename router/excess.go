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
type excess struct{ most sync.Map } // served -> float64

// served is a model at a backend.
type served struct{ backend, model string }

// maxExcess keeps one absurd bill from closing a model for ever.
const maxExcess = 100

// learn takes the bill of a call into account.
func (e *excess) learn(at served, estimate, cost usd.Amount) {
	if e == nil || estimate <= 0 || cost <= estimate {
		return
	}
	factor := min(e.of(at)*float64(cost)/float64(estimate), maxExcess)
	e.most.Store(at, factor)
}

// of returns how many times its estimate a call may cost.
func (e *excess) of(at served) float64 {
	if e == nil {
		return 1
	}
	factor, ok := e.most.Load(at)
	if !ok {
		return 1
	}
	return factor.(float64) //nolint:forcetypeassert // learn stores no other
}

// apply returns an estimate with what is known to be wrong with it.
func (e *excess) apply(at served, estimate usd.Amount) usd.Amount {
	return min(usd.Amount(math.Ceil(float64(estimate)*e.of(at))), usd.Most)
}
