// Package fleet makes this box a member of a fleet: it announces the box's state to the
// other boxes over NATS, and keeps what they announce. cmd/internal/fleet/ownbox runs it;
// cmd/internal/config reads its Settings.
//
// Announcements are messages on the subjects of a JetStream key-value bucket. Each box
// subscribes to these subjects directly: an announcement is at the others at once, and also
// while the bucket has no leader, which takes NATS up to 9 seconds to elect. The bucket
// decides which box has a name: an announcement is stored only if it follows the last one of
// the same box.
//
// A call never waits for NATS: a View is in memory. Without NATS the box continues alone,
// and joins again later. Announcements have no times, so that the clocks of boxes may differ.
package fleet
