// Package house holds the plan of the house by tests: which package may import
// which, who alone starts processes or speaks NVML or SQL, what lies at the
// top level, and how large a file may grow. Nothing imports it; go test calls
// it, and a failure names the file and what to do instead.
package house
