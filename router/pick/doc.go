// Package pick decides which box of a fleet answers a call: the order in which boxes are tried,
// from what each of them last announced. The router calls it for a route whose model is on
// several boxes.
//
// Order and ToLoad are pure: they know no connection and no clock, keep nothing between
// calls, and all boxes come to the same result about the home of a conversation without asking
// each other.
package pick
