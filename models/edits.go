package models

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Edits are what a route changes in the parameters of its calls, which are the members of the
// outermost object of a call's body. Names are compared without regard to case, as backends
// written in Go read them.
type Edits struct {
	Set   Parameters `yaml:"set" json:"set,omitempty"`     // for parameters that a call does not have; null in a call counts as there
	Force Parameters `yaml:"force" json:"force,omitempty"` // in place of those of the call
	Strip []string   `yaml:"strip" json:"strip,omitempty"` // the names of those that are removed
}

// Parameters are parameters by name.
type Parameters map[string]JSON

// Names returns the names, sorted.
func (p Parameters) Names() []string { return slices.Sorted(maps.Keys(p)) }

// FixedParameters are those that a route may not edit: they decide where a call goes, what it
// asks, and in which form it is answered.
var FixedParameters = []string{
	"model", "models", "route", "preset",
	"messages", "prompt", "input",
	"stream", "stream_options", "usage",
}

// HasName reports whether a parameter is in a list of names.
func HasName(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// Removes reports whether the edits remove a parameter of a call.
func (e *Edits) Removes(name string) bool {
	if HasName(e.Strip, name) {
		return true
	}
	for forced := range e.Force {
		if strings.EqualFold(forced, name) {
			return true
		}
	}
	return false
}

// MergeEdits returns the edits for an entry of fallbacks: each of set, force and strip that the
// entry has replaces that of its route. nil = nothing is edited.
func MergeEdits(entry, route *Edits) *Edits {
	merged := route
	if entry != nil {
		merged = &Edits{entry.Set, entry.Force, entry.Strip}
	}
	if entry != nil && route != nil {
		if entry.Set == nil {
			merged.Set = route.Set
		}
		if entry.Force == nil {
			merged.Force = route.Force
		}
		if entry.Strip == nil {
			merged.Strip = route.Strip
		}
	}
	if merged == nil || len(merged.Set)+len(merged.Force)+len(merged.Strip) == 0 {
		return nil
	}
	return merged
}

// EditError is a parameter that a route may not edit so.
type EditError struct {
	Key     string // set, force or strip
	Name    string // of the parameter
	Problem string
}

func (e *EditError) Error() string { return e.Key + ": " + strconv.Quote(e.Name) + " " + e.Problem }

// Check returns the first mistake; nil = there is none.
func (e *Edits) Check() *EditError {
	if e == nil {
		return nil
	}
	var seen []string
	for _, of := range []struct {
		key   string
		names []string
	}{{"set", e.Set.Names()}, {"force", e.Force.Names()}, {"strip", e.Strip}} {
		for _, name := range of.names {
			switch {
			case name == "":
				return &EditError{of.key, name, "is not the name of a parameter"}
			case HasName(FixedParameters, name):
				return &EditError{of.key, name, "cannot be edited: it decides where a call goes, what it asks or how it is answered"}
			case HasName(seen, name):
				return &EditError{of.key, name, "is there twice; keep it in one of set, force and strip"}
			}
			seen = append(seen, name)
		}
	}
	return nil
}
