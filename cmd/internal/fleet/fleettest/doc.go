// Package fleettest runs real NATS servers for tests: in the test's own process, or as
// processes that a test can kill.
package fleettest
