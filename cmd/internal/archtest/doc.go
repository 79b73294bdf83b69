// Package archtest tests the rules of this repository's structure: which package may
// import which, which packages start processes, speak NVML or SQL, repeat requests, or
// know llama-server, what may be at the top level, and how large a file, a package or an
// interface may be. No package imports it. go test runs it; a failure names the file and
// what to do.
package archtest
