// Package scheduler decides which models are on the GPUs, when there are more of them than
// fit at once. Decide is pure: from the models, where they are, the calls that wait, and the
// VRAM that the driver reports, it returns which models to load and which to evict. Its
// caller owns the state, carries out the plan, and decides again after every change.
//
// Two costs decide, in one unit, USD: what calls cost at a paid fallback, and what callers'
// waiting is worth (WaitPrice). A model is evicted only for another one that gains more
// than the eviction loses, never while it is younger than its minimum loaded time, and
// never if it is pinned.
package scheduler
