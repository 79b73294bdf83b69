// Package usd counts money exactly. The ledger stores and sums up its amounts, the price
// tables compute them from tokens, and the budgets add them.
//
// An amount is a whole number of picodollars (1e-12 USD). A token of the cheapest models
// costs about 20,000 of them, so the cost of a call is exact to well below 1e-9 USD, and
// sums of millions of calls are exact in any order, in Go and in SQL's INTEGER. A float64
// cannot even represent 0.1.
package usd

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Amount is an amount of money in picodollars. An unknown amount is a nil pointer, and
// never 0.
type Amount int64

// Dollar is one USD.
const Dollar Amount = 1e12

// Max is the highest amount that Parse accepts: no call and no budget comes near it, and
// a few hundred of them add up without overflow.
const Max = 10_000 * Dollar

// decimals is how many decimal places an Amount has.
const decimals = 12

// The errors of a figure.
var (
	errNotNumber = errors.New("is not a decimal number (examples: 0.00000015, 1.5e-7)")
	errNegative  = errors.New("is negative")
	errTooMuch   = errors.New("is too high")
)

// Parse reads a figure in USD, in JSON's form of numbers, and rounds it to the nearest
// picodollar. Negative figures, which some upstreams use for "it depends", and figures
// above Max are errors.
func Parse(s string) (Amount, error) {
	n, err := ParseScaled(s, decimals)
	if err == nil && Amount(n) > Max {
		err = errTooMuch
	}
	if err != nil {
		return 0, fmt.Errorf("%.40q %w", s, err)
	}
	return Amount(n), nil
}

// ParseScaled reads a decimal number in JSON's form, and returns it times ten to the power
// of scale, rounded half up to a whole number. It works on the digits, so the result has
// no floating-point error.
func ParseScaled(s string, scale int) (int64, error) {
	if without, ok := strings.CutPrefix(s, "-"); ok && !strings.HasPrefix(without, "-") {
		n, err := ParseScaled(without, scale)
		if err == nil && n > 0 {
			err = errNegative
		}
		return 0, err // -0 is 0
	}
	mantissa, exponent := s, 0
	if at := strings.IndexAny(s, "eE"); at >= 0 {
		var ok bool
		if exponent, ok = parseExponent(s[at+1:]); !ok {
			return 0, errNotNumber
		}
		mantissa = s[:at]
	}
	whole, fraction, point := strings.Cut(mantissa, ".")
	if !isDigits(whole) || point && !isDigits(fraction) || len(whole) > 1 && whole[0] == '0' {
		return 0, errNotNumber
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return 0, nil
	}
	// The value is digits times ten to the power of shift.
	shift := exponent - len(fraction) + scale
	switch {
	case len(digits)+shift > 19: // an int64 has at most 19 digits
		return 0, errTooMuch
	case shift >= 0:
		digits += strings.Repeat("0", shift)
	case len(digits)+shift < 0: // below 0.1
		return 0, nil
	}
	up := false
	if shift < 0 {
		cut := len(digits) + shift
		up = digits[cut] >= '5'
		digits = "0" + digits[:cut]
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, errTooMuch
	}
	if up {
		if n++; n < 0 {
			return 0, errTooMuch
		}
	}
	return n, nil
}

// maxExponent is higher than any figure's exponent, and too low for an overflow.
const maxExponent = 10_000

func parseExponent(s string) (int, bool) {
	digits := strings.TrimPrefix(s, "-")
	negative := digits != s
	if !negative {
		digits = strings.TrimPrefix(s, "+")
	}
	if !isDigits(digits) {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n > maxExponent {
		n = maxExponent
	}
	if negative {
		n = -n
	}
	return n, true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// Float returns the amount in USD, rounded to a float64.
func (a Amount) Float() float64 { return float64(a) / float64(Dollar) }

// String returns the amount in USD with all digits, for example 0.00000015.
func (a Amount) String() string { return string(a.Append(nil)) }

// Append appends the text that String returns.
func (a Amount) Append(text []byte) []byte {
	n := uint64(a)
	if a < 0 {
		text, n = append(text, '-'), -n
	}
	text = strconv.AppendUint(text, n/uint64(Dollar), 10)
	fraction := n % uint64(Dollar)
	if fraction == 0 {
		return text
	}
	from := len(text)
	text = strconv.AppendUint(text, fraction+uint64(Dollar), 10) // the extra digit makes AppendUint write leading zeros
	text[from] = '.'
	return bytes.TrimRight(text, "0")
}

// MarshalJSON writes a JSON number in USD with all digits: exact for readers of decimals,
// the nearest value for readers of float64.
func (a Amount) MarshalJSON() ([]byte, error) { return a.Append(nil), nil }

// UnmarshalJSON reads what Parse reads, as a number or a string.
func (a *Amount) UnmarshalJSON(raw []byte) error {
	s := string(raw)
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	n, err := Parse(s)
	if err != nil {
		return err
	}
	*a = n
	return nil
}

// UnmarshalText reads an amount in the configuration.
func (a *Amount) UnmarshalText(text []byte) error { return a.UnmarshalJSON(text) }
