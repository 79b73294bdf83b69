package access

import (
	"slices"
	"time"
)

// Policy says which requests a router accepts. The zero value accepts all but those of
// web pages.
type Policy struct {
	Keys        []Key         // of callers; none = a call needs no key
	Origins     []string      // of web pages that may call, as browsers write them; "*" = all
	CheckHost   bool          // it may be called only by its own names: nothing else keeps out pages that rebind theirs
	Hosts       []string      // its names besides those of loopback, in lower case
	AnyIP       bool          // and all addresses: it listens beyond loopback
	BodyTimeout time.Duration // in which a request's body has to arrive; 0 = no limit
}

// Clone returns a copy that shares no memory with the policy.
func (p Policy) Clone() *Policy {
	p.Keys, p.Origins, p.Hosts = slices.Clone(p.Keys), slices.Clone(p.Origins), slices.Clone(p.Hosts)
	return &p
}
