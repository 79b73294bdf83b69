package ledger

import (
	"reflect"
	"strings"
	"testing"
)

// A row of the same kind gets the same one, and one that differs in anything at
// all another.
func TestKinds(t *testing.T) {
	var ks kinds
	row := paid("r", 1)
	first := ks.of(&row)
	again := paid("other", 2)
	again.Model = strings.Clone(again.Model)
	if ks.of(&again) != first || *first != row.kind() {
		t.Errorf("%+v is another kind than %+v", again, first)
	}
	seen := map[kind]bool{*first: true}
	for field := range reflect.TypeFor[kind]().Fields() {
		name := field.Name
		other := paid("r", 1)
		f := reflect.ValueOf(&other).Elem().FieldByName(strings.ToUpper(name[:1]) + name[1:])
		switch f.Kind() {
		case reflect.String:
			f.SetString("another")
		case reflect.Int:
			f.SetInt(418)
		default:
			f.SetBool(!f.Bool())
		}
		k := ks.of(&other)
		if seen[*k] || k == first || *k != other.kind() {
			t.Errorf("with another %s it is %+v", name, k)
		}
		seen[*k] = true
		if ks.of(&row) != first {
			t.Errorf("after another %s the first is known no more", name)
		}
	}
	for i := range maxKinds + 100 {
		made := Row{Model: strings.Repeat("m", i%100) + strings.Repeat("x", i/100)}
		if k := ks.of(&made); k.model != made.Model {
			t.Fatalf("%q became %q", made.Model, k.model)
		}
	}
	if len(ks.all) > maxKinds {
		t.Errorf("%d kinds are remembered", len(ks.all))
	}
	long := Row{Model: strings.Repeat("x", maxWord) + "1"}
	cut := ks.of(&long)
	if long.Model = strings.Repeat("x", maxWord) + "2"; ks.of(&long) != cut || len(cut.model) != maxWord {
		t.Errorf("a long word is kept with %d bytes", len(cut.model))
	}
}
