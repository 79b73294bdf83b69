package router

import (
	"slices"
	"time"
)

// Door says whom a Router lets in. The zero value lets in everybody but web
// pages.
type Door struct {
	Keys        []Key         // of callers; none = a call needs no key
	Origins     []string      // of web pages that may call, as browsers write them; "*" = all
	CheckHost   bool          // it may be called only by its own names: nothing else keeps out pages that rebind theirs
	Hosts       []string      // its names besides those of loopback, in lower case
	AnyIP       bool          // and all addresses: it listens beyond loopback
	BodyTimeout time.Duration // in which a request's body has to arrive; 0 = no limit
}

func (d Door) clone() *Door {
	d.Keys, d.Origins, d.Hosts = slices.Clone(d.Keys), slices.Clone(d.Origins), slices.Clone(d.Hosts)
	return &d
}
