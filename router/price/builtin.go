package price

// BuiltInDate is the date of the built-in prices.
const BuiltInDate = "2026-08-21"

// BuiltInTable returns the prices of the OpenRouter models in package models' built-in
// routes: the public list prices of BuiltInDate. They apply until the upstream's list has
// been read.
//
// qwen/qwen-2.5-14b-instruct is missing: no public list of that day had it, and with a
// guess all savings of the local server would be guesses. Set its price in the
// configuration.
func BuiltInTable() Table {
	return Table{
		"openai/gpt-4o":                     perMillion("2.50", "10", "1.25"),
		"openai/gpt-4o-mini":                perMillion("0.15", "0.60", "0.075"),
		"anthropic/claude-3.5-sonnet":       perMillion("3", "15", "0.30"),
		"qwen/qwen-2.5-7b-instruct":         perMillion("0.04", "0.10", ""),
		"qwen/qwen-2.5-72b-instruct":        perMillion("0.12", "0.39", ""),
		"qwen/qwen-2.5-coder-32b-instruct":  perMillion("0.06", "0.15", ""),
		"meta-llama/llama-3.1-8b-instruct":  perMillion("0.02", "0.03", ""),
		"meta-llama/llama-3.3-70b-instruct": perMillion("0.05", "0.24", ""),
	}
}

// perMillion converts the usual quotes, USD per million tokens.
func perMillion(prompt, completion, cached string) Prices {
	a := func(figure string) Price {
		p, err := Parse(figure + "e-6")
		if err != nil { // never: a test reads the table
			panic("price: " + err.Error())
		}
		return p
	}
	prices := Prices{Prompt: a(prompt), Completion: a(completion)}
	if cached != "" {
		p := a(cached)
		prices.Cached = &p
	}
	return prices
}
