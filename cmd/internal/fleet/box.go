package fleet

import (
	"errors"
	"math"
	"slices"
	"strings"
	"unicode"
)

// Box is what a box announces of itself. Other versions of llmsup may know more fields or
// fewer.
type Box struct {
	Name     string  `json:"name"`
	Instance string  `json:"instance"` // of the process; random
	Seq      uint64  `json:"seq"`      // of the announcement; a later one of the instance has a higher one
	Address  string  `json:"address"`  // base URL at which it takes calls
	Version  string  `json:"version"`
	Leaving  bool    `json:"leaving,omitempty"` // it stops, or leaves the fleet: its last announcement
	Drained  bool    `json:"drained"`           // an operator has taken all its servers out of use
	NoKeys   bool    `json:"no_keys,omitempty"` // it takes no calls of clients, since it has no keys yet; it takes those of boxes
	Models   []Model `json:"models"`
	GPUs     []GPU   `json:"gpus"`

	ConfigVersion uint64 `json:"config_version,omitempty"` // of the fleet's configuration that it runs; 0 = none
	ConfigRefused uint64 `json:"config_refused,omitempty"` // version that it refuses; 0 = none
	ConfigProblem string `json:"config_problem,omitempty"` // why, or what else does not work; "" = all works
}

// Model is the model of a server. A value that is not known is null.
type Model struct {
	Name   string `json:"name"` // of its server
	State  string `json:"state"`
	Slots  *int   `json:"slots"`  // concurrent calls
	Free   *int   `json:"free"`   // slots that no call has
	Queued int    `json:"queued"` // calls that wait for a slot or for the model

	TokensPerSecond   *float64 `json:"tokens_per_second"`       // of all its calls together, in the last ten seconds
	FirstTokenSeconds *float64 `json:"first_token_p50_seconds"` // median of the last 15 minutes
	LoadSeconds       *float64 `json:"load_seconds"`            // that a load takes
	LoadsInSeconds    *float64 `json:"loads_in_seconds"`        // until it would be loaded if a call came now; null = it is loaded, or could not be loaded soon
	Drained           bool     `json:"drained"`                 // an operator has taken it out of use

	ServiceSeconds        *float64 `json:"service_seconds"`          // that a call holds its slots on average
	PromptTokensPerSecond *float64 `json:"prompt_tokens_per_second"` // that are not cached
	ContextLength         *int     `json:"context_length"`           // tokens of one call, prompt and answer together, as in GET /v1/models
	Capabilities          []string `json:"capabilities,omitempty"`   // as in GET /v1/models; empty = unknown
	Aggregation           bool     `json:"aggregation"`              // a call without a stream may be sent to it as a stream
}

// GPU is the health of a GPU.
type GPU struct {
	Index  int    `json:"index"`
	Health string `json:"health"` // ok, degraded, lost or unknown
}

// The largest announcement: no box needs more, and an outsider can make a box handle no more.
const (
	maxValue        = 64 << 10 // bytes
	maxModels       = 256
	maxGPUs         = 64
	maxText         = 200 // bytes of a text
	maxCapabilities = 32
	maxCount        = 1 << 20 // slots, calls
)

// check returns an error if a Box cannot be one that llmsup has announced. A user sees its
// texts on a terminal.
func (b *Box) check() error {
	if !validName.MatchString(b.Name) || b.Instance == "" || !text(b.Instance) || !text(b.Version) || !text(b.ConfigProblem) || !validAddress(b.Address) {
		return errors.New("invalid name, instance, version or address")
	}
	if len(b.Models) > maxModels || len(b.GPUs) > maxGPUs {
		return errors.New("too many models or GPUs")
	}
	for _, m := range b.Models {
		if !m.valid() {
			return errors.New("invalid model")
		}
	}
	for _, g := range b.GPUs {
		if g.Index < 0 || g.Index > maxCount || !text(g.Health) {
			return errors.New("invalid GPU")
		}
	}
	return nil
}

func (m *Model) valid() bool {
	return m.Name != "" && text(m.Name) && text(m.State) && count(m.Slots) && count(m.Free) && count(&m.Queued) &&
		figure(m.TokensPerSecond) && figure(m.FirstTokenSeconds) && figure(m.LoadSeconds) && figure(m.LoadsInSeconds) &&
		figure(m.ServiceSeconds) && figure(m.PromptTokensPerSecond) && (m.ContextLength == nil || *m.ContextLength >= 0) &&
		len(m.Capabilities) <= maxCapabilities && !slices.ContainsFunc(m.Capabilities, func(c string) bool { return !text(c) })
}

// Text returns the beginning of a text that can be announced, without characters that control a
// terminal.
func Text(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText-len("...")], "") + "..."
}

func text(s string) bool { return len(s) <= maxText && printable(s) }

// printable reports whether a text is UTF-8 without characters that control a terminal.
func printable(s string) bool {
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func count(n *int) bool { return n == nil || *n >= 0 && *n <= maxCount }

func figure(f *float64) bool { return f == nil || *f >= 0 && *f <= math.MaxInt32 }
