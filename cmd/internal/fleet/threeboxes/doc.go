// Package threeboxes tests a fleet of three real boxes under faults. Each box has a network
// namespace and a llama-server of its own; each of the three NATS servers has a namespace too.
// A bridge joins them. The test makes the calls, and is the paid upstream.
//
// All of it runs in namespaces of processes, mounts and networks that end with the test, so
// that a test that is killed leaves nothing.
package threeboxes
