// Package bench measures the cost of a call through llmsup against one through Go's
// httputil.ReverseProxy, in front of the same upstream, on the same core, in the same run.
// It consists of test files with the build tag "bench", which scripts/bench.sh runs.
package bench
