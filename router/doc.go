// Package router is the OpenAI-compatible endpoint: it takes a call, finds out
// by its model name who should answer it, and hands it to them, local server
// first, so that the caller gets one whole answer or one honest error.
//
// A call flows one way:
//
//	door (who may come in) -> surface (which dialect) -> body (find the
//	model) -> plan (who, in what order, why) -> attempt (send, wait for the
//	first answer) -> commit -> relay (copy) -> record
//
// Until commit nothing has been sent to the client, so any failure moves the
// call to the next backend of its plan and the client never knows. The daemon
// (cmd/internal/daemon) makes the one Router and serves it.
package router
