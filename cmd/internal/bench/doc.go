// Package bench measures what a call costs that goes through llmsup, against a
// proxy that does nothing else: Go's own httputil.ReverseProxy in front of the
// same upstream, on the same core, in the same run. It is all test files behind
// the build tag "bench", which scripts/bench.sh runs.
package bench
