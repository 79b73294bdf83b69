// Package inflight knows the calls that the router is working on, and those that ended last:
// who made them, which backend has them, and how far they are. The router enters and removes
// calls; commands and the page list, follow and cancel them. It has no prompts and no answers,
// and it never decides where a call goes.
package inflight
