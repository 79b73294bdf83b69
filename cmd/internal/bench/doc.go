// Package bench measures what a call's way through llmsup costs, against a
// proxy that does nothing else: Go's own httputil.ReverseProxy in front of the
// same upstream, on the same core, in the same run. It is all test files behind
// the build tag "bench"; scripts/bench.sh runs them, and nobody else does.
package bench
