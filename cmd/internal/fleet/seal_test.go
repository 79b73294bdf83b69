package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

func sealerOf(key string) sealer { return newSealer([]byte(key)) }

func validBox() *Box {
	slots, free, speed := 4, 1, 41.5
	return &Box{
		Name: "gpu1", Instance: "i", Seq: 7, Address: "http://gpu1.internal:8000", Version: "v1.2.3",
		Models: []Model{
			{Name: "qwen2.5-14b", State: "ready", Slots: &slots, Free: &free, Queued: 2, TokensPerSecond: &speed, FirstTokenSeconds: &speed, LoadSeconds: &speed},
			{Name: "whisper", State: "unloaded"},
		},
		GPUs: []GPU{{0, "ok"}, {1, "degraded"}},
	}
}

func TestSeal(t *testing.T) {
	value, err := sealerOf(fleetKey).seal(validBox())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes: %s", len(value), value)
	got, err := sealerOf(fleetKey).open(value)
	if err != nil {
		t.Fatal(err)
	}
	sent, _ := json.Marshal(validBox())
	if received, _ := json.Marshal(got); !bytes.Equal(sent, received) {
		t.Errorf("got %s,\nwant %s", received, sent)
	}
	if _, err := sealerOf("another key of 32 characters....").open(value); !errors.Is(err, errForeign) {
		t.Errorf("with another key: %v", err)
	}
	for i := range value { // each bit counts
		changed := bytes.Clone(value)
		changed[i] ^= 1
		if b, err := sealerOf(fleetKey).open(changed); err == nil {
			t.Fatalf("with byte %d changed it is %+v", i, b)
		}
	}
	if bytes.Contains(value, []byte(fleetKey)) {
		t.Error("it has the key")
	}
}

// A box with the key, and an error in it, cannot harm the others.
func TestBoxIsChecked(t *testing.T) {
	negative, infinite, huge := -1, math.Inf(1), 1<<40
	for name, change := range map[string]func(*Box){
		"no name":               func(b *Box) { b.Name = "" },
		"a subject":             func(b *Box) { b.Name = "a.b" },
		"no instance":           func(b *Box) { b.Instance = "" },
		"a terminal's sequence": func(b *Box) { b.Version = "\x1b[2J" },
		"a long version":        func(b *Box) { b.Version = strings.Repeat("v", maxText+1) },
		"no address":            func(b *Box) { b.Address = "" },
		"another scheme":        func(b *Box) { b.Address = "file:///etc/passwd" },
		"a user in the address": func(b *Box) { b.Address = "http://u:p@gpu1" },
		"a path":                func(b *Box) { b.Address = "http://gpu1/x" },
		"a line feed":           func(b *Box) { b.Models[0].State = "ready\nx" },
		"a negative number":     func(b *Box) { b.Models[0].Free = &negative },
		"a large number":        func(b *Box) { b.Models[0].Queued = huge },
		"an infinite speed":     func(b *Box) { b.Models[0].TokensPerSecond = &infinite },
		"a model without name":  func(b *Box) { b.Models[0].Name = "" },
		"many capabilities":     func(b *Box) { b.Models[0].Capabilities = make([]string, maxCapabilities+1) },
		"a long capability":     func(b *Box) { b.Models[0].Capabilities = []string{strings.Repeat("c", maxText+1)} },
		"many models":           func(b *Box) { b.Models = make([]Model, maxModels+1) },
		"many GPUs":             func(b *Box) { b.GPUs = make([]GPU, maxGPUs+1) },
		"a GPU below 0":         func(b *Box) { b.GPUs[0].Index = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			b := validBox()
			change(b)
			if b.check() == nil {
				t.Error("it is accepted")
			}
			if _, err := sealerOf(fleetKey).seal(b); err == nil {
				t.Error("it is announced")
			}
		})
	}
}

// TestOtherVersions: a newer version may announce more, and states that this one does not know; an
// older one announces less. What both know is read, and what is not announced is unknown.
func TestOtherVersions(t *testing.T) {
	const head = `{"name":"gpu1","instance":"i","seq":7,"address":"http://gpu1:8000","version":"v",`
	for name, body := range map[string]string{
		"newer": `{"news":[1],` + head[1:] + `"drained":false,"models":[{"name":"a","state":"hibernating","slots":4,"free":null,"queued":0,"tier":{"x":1}}],"gpus":[{"index":0,"health":"tired","fan":2}],"seal":"x"}`,
		"older": head + `"models":[{"name":"a","state":"hibernating","slots":4}],"gpus":[{"index":0,"health":"tired"}]}`,
		"null":  head + `"models":[{"name":"a","state":"hibernating","slots":4,"service_seconds":null,"aggregation":null}],"gpus":[{"index":0,"health":"tired"}],"config_version":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := sealerOf(fleetKey)
			got, err := s.open(sealRaw(s, []byte(body)))
			want := &Box{
				Name: "gpu1", Instance: "i", Seq: 7, Address: "http://gpu1:8000", Version: "v",
				Models: []Model{{Name: "a", State: "hibernating", Slots: new(4)}}, GPUs: []GPU{{0, "tired"}},
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// sealRaw seals any text.
func sealRaw(s sealer, body []byte) []byte {
	const digits = "0123456789abcdef"
	value := []byte(sealVersion)
	for _, b := range s.code(body) {
		value = append(value, digits[b>>4], digits[b&15])
	}
	return append(append(value, '\n'), body...)
}

func FuzzOpen(f *testing.F) {
	s := sealerOf(fleetKey)
	value, _ := s.seal(validBox())
	_, body, _ := bytes.Cut(value, []byte("\n"))
	f.Add(value)
	f.Add(body)
	f.Fuzz(func(t *testing.T, text []byte) {
		if b, err := s.open(text); err == nil && !bytes.Equal(text, value) {
			t.Errorf("it is accepted without the key: %+v", b)
		}
		if b, err := s.open(sealRaw(s, text)); err == nil { // a box with the key
			if again, err := s.seal(b); err == nil {
				if _, err := s.open(again); err != nil {
					t.Errorf("what was read cannot be read again: %v", err)
				}
			}
		}
	})
}
