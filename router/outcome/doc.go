// Package outcome decides what a client receives after no backend of its call's route has
// answered: which error, with which status, and whether the client should send the call
// again. It only computes. Package router calls it and sends the result.
package outcome
