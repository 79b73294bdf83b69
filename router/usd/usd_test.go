package usd

import (
	"encoding/json"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]Amount{
		"0": 0, "-0": 0, "0.0": 0, "0e9": 0, "1": Dollar, "5.00": 5 * Dollar, "0.1": Dollar / 10, "10000": Max,
		"0.00000015": 150_000, "1.5e-7": 150_000, "1.5E-07": 150_000, "150e-9": 150_000, "0.000000000001": 1,
		"0.0000000000005": 1, "0.00000000000049999": 0, "0.0000000000015": 2, "9e-13": 1, "4.9e-13": 0, "1e-99999999999999999999": 0,
		"0.12345600000000001": 123_456_000_000, // what is left of a float
		"0.30000000000000004": 300_000_000_000,
	} {
		if got, err := Parse(s); err != nil || got != want {
			t.Errorf("Parse(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"": "not a decimal", "abc": "not a decimal", "1,5": "not a decimal", " 1": "not a decimal", "1 ": "not a decimal", "+1": "not a decimal", ".5": "not a decimal", "5.": "not a decimal",
		"0x10": "not a decimal", "1_000": "not a decimal", "NaN": "not a decimal", "Infinity": "not a decimal", "1e": "not a decimal", "1e+": "not a decimal", "01": "not a decimal", "1e1e1": "not a decimal", "٣": "not a decimal",
		"1.2.3": "not a decimal", "-1": "negative", "-1e-7": "negative", "--1": "not a decimal", "--0": "not a decimal", "-": "not a decimal", "10000.000000000001": "too high", "1e99999999999999999999": "too high",
		"9223372036854775808": "too high", strings.Repeat("9", 100): "too high",
	} {
		if got, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 140 {
			t.Errorf("Parse(%q) = %d, %v; want an error with %q", s, got, err, want)
		}
	}
}

var jsonNumber = regexp.MustCompile(`^(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$`)

// FuzzParse compares it with rational numbers.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"0.00000015", "1.5e-7", "-1", "0.30000000000000004", "1e400", "00", "9999.9999999999995", "1e-13", "5e-13"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s)
		if len(s) > 200 || !jsonNumber.MatchString(s) {
			if err == nil && !strings.HasPrefix(s, "-") && len(s) <= 200 && !regexp.MustCompile(`[eE][+-]?[0-9]{4,}$`).MatchString(s) {
				t.Fatalf("%q is read as %d", s, got)
			}
			return
		}
		exact, ok := new(big.Rat).SetString(s)
		if !ok {
			t.Fatalf("%q is no number after all", s)
		}
		exact.Mul(exact, new(big.Rat).SetInt64(int64(Dollar)))
		exact.Add(exact, big.NewRat(1, 2))
		want := new(big.Int).Quo(exact.Num(), exact.Denom())
		if tooMuch := want.Cmp(big.NewInt(int64(Max))) > 0; tooMuch != (err != nil) || !tooMuch && want.Int64() != int64(got) {
			t.Fatalf("Parse(%q) = %d, %v; want %s", s, got, err, want)
		}
		if err == nil {
			if again, err := Parse(got.String()); err != nil || again != got {
				t.Fatalf("%d is written %q and read as %d, %v", got, got, again, err)
			}
		}
	})
}

func TestWritten(t *testing.T) {
	for a, want := range map[Amount]string{
		0: "0", 1: "0.000000000001", Dollar: "1", -Dollar / 2: "-0.5", 150_000: "0.00000015", 12*Dollar + 340_000_000_000: "12.34",
		-1 << 63: "-9223372.036854775808",
	} {
		raw, err := json.Marshal(a)
		if err != nil || string(raw) != want || a.String() != want {
			t.Errorf("%d is written %s, %v; want %s", int64(a), raw, err, want)
		}
		if f, err := strconv.ParseFloat(want, 64); err != nil || f != a.Float() && a != -1<<63 {
			t.Errorf("%d is %v as a float, want %v", int64(a), a.Float(), f)
		}
	}
}

func TestUnmarshal(t *testing.T) {
	var got struct {
		A, B Amount
		C    *Amount
	}
	if err := json.Unmarshal([]byte(`{"A": 1.5e-7, "B": "0.3", "C": null}`), &got); err != nil || got.A != 150_000 || got.B != 3*Dollar/10 || got.C != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{`{"A": true}`, `{"A": "-1"}`, `{"A": {}}`, `{"A": "x"}`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	if err := yaml.Unmarshal([]byte("a: 5\nb: 0.30\n"), &got); err != nil || got.A != 5*Dollar || got.B != 3*Dollar/10 {
		t.Errorf("from YAML got %+v, %v", got, err)
	}
}
