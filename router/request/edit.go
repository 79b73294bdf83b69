package request

import (
	"bytes"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/wire"
)

// Edit returns the body with a route's edits. All other members keep their bytes. The body is
// copied only if it has something to edit. A form is not edited.
func (b Body) Edit(e *models.Edits) Body {
	if e == nil || b.Form || len(b.Raw) == 0 {
		return b
	}
	head := bytes.IndexByte(b.Raw, '{') + 1
	tail := head    // Raw[:head] is before the members, Raw[tail:] after them
	var kept []Span // runs of members that stay, with the commas between them
	runEnded, empty, removed := true, true, false
	missing := e.Set.Names()
	wire.Scan(b.Raw, func(m wire.Member) {
		if empty {
			head, empty = m.KeyFrom, false
		}
		tail = m.To
		name := string(wire.MemberName(b.Raw[m.KeyFrom:m.KeyTo]))
		if e.Removes(name) {
			removed, runEnded = true, true
			return
		}
		missing = slices.DeleteFunc(missing, func(n string) bool { return strings.EqualFold(n, name) })
		if runEnded {
			kept, runEnded = append(kept, Span{From: m.KeyFrom}), false
		}
		kept[len(kept)-1].To = m.To
	})
	members := addedMembers(e, missing)
	if len(members) == 0 && !removed {
		return b
	}
	for _, run := range kept {
		members = append(members, b.Raw[run.From:run.To])
	}
	return b.withMembers(b.Raw[:head], members, b.Raw[tail:])
}

// addedMembers returns the members that edits add: those of force, and the missing ones of set.
func addedMembers(e *models.Edits, missing []string) (members [][]byte) {
	add := func(name string, value models.JSON) {
		members = append(members, []byte(wire.Quote(name)+":"+value.Text()))
	}
	for _, name := range e.Force.Names() {
		add(name, e.Force[name])
	}
	for _, name := range missing {
		add(name, e.Set[name])
	}
	return members
}

// withMembers returns a body with other members.
func (b Body) withMembers(head []byte, members [][]byte, tail []byte) Body {
	size := len(head) + len(tail)
	for _, member := range members {
		size += len(member) + len(",")
	}
	raw := append(make([]byte, 0, size), head...)
	for i, member := range members {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = append(raw, member...)
	}
	edited, err := b.Replace(append(raw, tail...))
	if err != nil { // never: models.Edits.Check rejects what would make it invalid (FuzzEdit)
		panic("request: the edited body is invalid: " + err.Error())
	}
	return edited
}

// Replace returns the body of the same call with other bytes.
func (b Body) Replace(raw []byte) (Body, error) {
	edited, err := ParseBodyFor(b.Fields, raw)
	edited.Model, edited.AddModel = b.Model, b.AddModel // the body may name none
	return edited, err
}
