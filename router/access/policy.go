package access

import (
	"slices"
	"time"
)

// Policy is which requests a router accepts. The zero value accepts all requests but
// those of web pages.
type Policy struct {
	Keys        []Key         // of clients; none = a request needs no key
	AwaitsKeys  bool          // no client's request is accepted until there are keys; those of other boxes are
	Origins     []string      // of web pages that are allowed, as ParseOrigin returns them
	CheckHost   bool          // accept only requests for the own names: it is the only protection from DNS rebinding where there are no keys
	Hosts       []string      // own names besides those of loopback, in lower case
	AnyIP       bool          // every IP address counts as an own name: the router listens beyond loopback
	BodyTimeout time.Duration // for reading a request's body; 0 = no limit
}

// Clone returns a copy that shares no memory with the policy.
func (p Policy) Clone() *Policy {
	p.Keys, p.Origins, p.Hosts = slices.Clone(p.Keys), slices.Clone(p.Origins), slices.Clone(p.Hosts)
	return &p
}
