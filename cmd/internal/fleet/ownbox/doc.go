// Package ownbox connects this box with its fleet: it makes what the box announces from the
// daemon's status, keeps a fleet.Member running as the configuration says, and reports what
// that knows. cmd/internal/daemon owns it. Without `fleet` in the configuration it runs
// nothing.
package ownbox
