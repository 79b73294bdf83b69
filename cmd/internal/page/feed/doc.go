// Package feed computes what the pages show: sections of JSON, such as the servers, the
// GPUs and the calls in flight. One goroutine computes them, while at least one page is
// open. A section is encoded once for all pages that may see the same, and is sent again
// only when it has changed.
//
// Package page calls it for each open page. A page that reads slowly gets the latest
// sections and never those between, so it delays nothing. The package decides nothing
// about servers or calls, and does not know HTTP.
package feed
