package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

func large(name string, price float64) spec {
	return spec{name: name, gib: 9.5, load: 8 * time.Second, slots: 4, prefill: 1500, generate: 45, price: price}
}

func small(name string, price float64) spec {
	return spec{name: name, gib: 5, load: 4 * time.Second, slots: 4, prefill: 3000, generate: 90, price: price}
}

// poisson returns arrivals at a rate per second, for a time.
func poisson(r *rand.Rand, from, length time.Duration, rate float64, make func() arrival) []arrival {
	var all []arrival
	for at := from; ; {
		at += time.Duration(r.ExpFloat64() / rate * float64(time.Second))
		if at >= from+length {
			return all
		}
		a := make()
		a.at = at
		all = append(all, a)
	}
}

func merge(name string, gib float64, models []spec, parts ...[]arrival) trace {
	all := slices.Concat(parts...)
	slices.SortStableFunc(all, func(a, b arrival) int { return int(a.at - b.at) })
	return trace{name, gib, models, all}
}

// alternation: two models that do not fit together are called in turn, 5 calls a second for
// 5 minutes.
func alternation() trace {
	models := []spec{large("a", 0.002), large("b", 0.002)}
	t := trace{"A/B alternation", 12, models, nil}
	for i := range 5 * 300 {
		t.arrivals = append(t.arrivals, arrival{at: time.Duration(i) * 200 * time.Millisecond, model: i % 2, prompt: 300, output: 20})
	}
	return t
}

// sixModels: 80 % of the calls are for two of six models, of which two or three fit.
func sixModels(seed uint64, length time.Duration) trace {
	r := rand.New(rand.NewPCG(seed, 1))
	var models []spec
	for i := range 6 {
		m := small(fmt.Sprintf("m%d", i), 0.001)
		if i%3 == 0 {
			m = large(m.name, 0.002)
		}
		models = append(models, m)
	}
	return merge("80/20 among six", 20, models, poisson(r, 0, length, 0.8, func() arrival {
		model := r.IntN(2)
		if r.Float64() > 0.8 {
			model = 2 + r.IntN(4)
		}
		return arrival{model: model, prompt: 100 + r.IntN(900), output: 20 + r.IntN(150)}
	}))
}

// agents: three agents with contexts that grow to 30,000 tokens use one model, and short
// calls go to two others.
func agents(seed uint64, length time.Duration) trace {
	r := rand.New(rand.NewPCG(seed, 2))
	models := []spec{large("coder", 0.02), small("mail", 0.0005), large("chat", 0.002)}
	var parts [][]arrival
	for session := 1; session <= 3; session++ {
		var own []arrival
		prompt := 4000
		for at := time.Duration(session) * 7 * time.Second; at < length; at += time.Duration(15+r.IntN(25)) * time.Second {
			output := 50 + r.IntN(250)
			own = append(own, arrival{at: at, model: 0, prompt: prompt, output: output, session: session})
			if prompt += output + r.IntN(1500); prompt > 30_000 {
				prompt = 4000
			}
		}
		parts = append(parts, own)
	}
	parts = append(parts, poisson(r, 0, length, 0.05, func() arrival { return arrival{model: 1, prompt: 400, output: 60} }))
	parts = append(parts, poisson(r, 0, length, 0.01, func() arrival { return arrival{model: 2, prompt: 800, output: 200} }))
	return merge("agents, long contexts", 16, models, parts...)
}

// nightly: a batch of 3,000 calls for one model beside interactive calls for another one.
func nightly(seed uint64, length time.Duration) trace {
	r := rand.New(rand.NewPCG(seed, 3))
	models := []spec{large("batch", 0.002), large("interactive", 0.002)}
	batch := poisson(r, length/4, length/2, 1.2, func() arrival { return arrival{model: 0, prompt: 600, output: 60} })
	talk := poisson(r, 0, length, 0.03, func() arrival { return arrival{model: 1, prompt: 500, output: 120} })
	return merge("nightly batch", 12, models, batch, talk)
}

func traces() []trace {
	return []trace{alternation(), sixModels(1, time.Hour), agents(1, time.Hour), nightly(1, time.Hour)}
}
